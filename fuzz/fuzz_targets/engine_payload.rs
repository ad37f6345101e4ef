//! Reads a polling body; what was read and is written again must read the same.
#![no_main]

use greenroom_socketio::engine::{
    EnginePacket, HttpMethod, Open, PayloadError, PayloadReader, PayloadWriter, Query,
};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|body: &[u8]| {
    if let Ok(text) = std::str::from_utf8(body) {
        let query = Query::parse(text);
        for websocket in [false, true] {
            let _ = query.admit(HttpMethod::Get, websocket, None);
        }
        assert!(query.pairs().count() <= text.len());
        if let Ok(open) = Open::from_json(text) {
            assert_eq!(Open::from_json(&open.to_json()).ok(), Some(open));
        }
    }
    let bytes_max = 1 << 16;
    let Ok(reader) = PayloadReader::new(body, bytes_max) else { return };
    let Ok(packets) = reader.collect::<Result<Vec<EnginePacket<'_>>, PayloadError>>() else { return };
    let mut writer = PayloadWriter::new(usize::MAX);
    for packet in &packets {
        assert!(writer.push(packet));
        let mut frame = Vec::new();
        packet.write_frame(Some([1, 2, 3, 4]), &mut frame);
    }
    let written = writer.finish();
    let again: Result<Vec<_>, _> = PayloadReader::new(&written, usize::MAX).expect("it is utf-8").collect();
    assert_eq!(again, Ok(packets));
});
