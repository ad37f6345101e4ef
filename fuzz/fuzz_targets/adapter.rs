//! Reads what Node.js servers of a cluster say, as an entry and as a message; what is accepted is written again and must read
//! the same.
#![no_main]

use greenroom_socketio::{
    Limits,
    adapter::{Entry, Says, Word},
};
use libfuzzer_sys::fuzz_target;

const LIMITS: Limits = Limits { attachment_bytes_max: 64, namespace_bytes_max: 32, ..Limits::DEFAULT };

fuzz_target!(|input: &[u8]| {
    let Some((kind, rest)) = input.split_first() else { return };
    if let Ok(Some(word)) = Word::read_message(rest, &LIMITS) {
        let message = word.to_message().expect("it is not deeper than allowed");
        let again = Word::read_message(&message, &LIMITS).expect("what is written can be read");
        assert_eq!(again, Some(word));
    }
    let data = String::from_utf8_lossy(rest).into_owned();
    let entry = Entry { uid: "a".to_owned(), nsp: "/".to_owned(), kind: (kind % 16).to_string(), data };
    if let Ok(Some(word)) = Word::read_entry(&entry, &LIMITS) {
        assert!(matches!(word.says, Says::Order(_)));
        let entry = word.to_entry().expect("it is not deeper than allowed");
        assert_eq!(Word::read_entry(&entry, &LIMITS).expect("what is written can be read"), Some(word));
    }
});
