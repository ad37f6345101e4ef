//! Bytes of gRPC in, bytes out; the test answers as the supervisor.

use axum::http::HeaderMap;
use http_body_util::BodyExt as _;
use tower::ServiceExt as _;

use super::*;
use crate::supervisor::SdkRefusal;

/// A face whose words are answered by `answer`, and the words that were said.
fn face(
    answer: fn(&SdkWord) -> Told,
) -> (Router, mpsc::UnboundedReceiver<SdkWord>, tokio::task::JoinSet<()>) {
    let (inbox, mut inputs) = mpsc::channel(8);
    let (heard, words) = mpsc::unbounded_channel();
    let server: ServerName = "arena-1".parse().unwrap();
    let mut played = tokio::task::JoinSet::new();
    let own = SdkWho::Port(server.clone());
    played.spawn(async move {
        while let Some(input) = inputs.recv().await {
            let Input::Sdk(asked) = input else { panic!("only the SDK speaks here") };
            assert_eq!(asked.who, own);
            let _ = asked.answer.try_send(answer(&asked.word));
            let _ = heard.send(asked.word);
        }
    });
    (router(Way { inbox, of: Some(server.clone()) }, server), words, played)
}

fn done(_: &SdkWord) -> Told {
    Ok(SdkTold::Done)
}

/// A message as a frame: not compressed, its length, itself.
fn frame(message: &impl Message) -> Vec<u8> {
    let text = message.encode_to_vec();
    let mut frame = vec![0];
    frame.extend_from_slice(&u32::try_from(text.len()).unwrap().to_be_bytes());
    frame.extend_from_slice(&text);
    frame
}

async fn call(face: &Router, path: &str, body: Vec<u8>) -> (Vec<u8>, HeaderMap) {
    let request = Request::post(path)
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .body(Body::from(body))
        .unwrap();
    let answer = face.clone().oneshot(request).await.unwrap();
    let head = answer.headers().clone();
    let whole = answer.into_body().collect().await.unwrap();
    // A refusal has no body: its status is in the head.
    let trailers = whole.trailers().cloned().unwrap_or(head);
    (whole.to_bytes().to_vec(), trailers)
}

fn status(trailers: &HeaderMap) -> (&str, &str) {
    let of = |name| trailers.get(name).map_or("", |value| value.to_str().unwrap());
    (of("grpc-status"), of("grpc-message"))
}

#[tokio::test]
async fn each_call_is_the_word_that_it_means() {
    let text = |key: &str, value: &str| KeyValue { key: key.to_owned(), value: value.to_owned() };
    let (name, value) = ("map".to_owned(), "desert".to_owned());
    let cases = [
        ("SDK/Ready", frame(&Empty {}), SdkWord::Ready),
        ("SDK/Allocate", frame(&Empty {}), SdkWord::Allocate),
        ("SDK/Shutdown", frame(&Empty {}), SdkWord::Shutdown),
        ("SDK/Reserve", frame(&Seconds { seconds: 30 }), SdkWord::Reserve { seconds: 30 }),
        (
            "SDK/SetLabel",
            frame(&text("map", "desert")),
            SdkWord::Label { name: name.clone(), value: value.clone() },
        ),
        ("SDK/SetAnnotation", frame(&text("map", "desert")), SdkWord::Annotation { name, value }),
        ("alpha.SDK/SetPlayerCapacity", frame(&Count { count: 9 }), SdkWord::PlayersMax(9)),
    ];
    let (face, mut words, _played) = face(done);
    for (path, body, word) in cases {
        let (answer, trailers) = call(&face, &format!("/agones.dev.sdk.{path}"), body).await;
        assert_eq!((answer, status(&trailers)), (frame(&Empty {}), ("0", "")), "{path}");
        assert_eq!(words.try_recv().unwrap(), word, "{path}");
    }
}

#[tokio::test]
async fn each_message_of_the_stream_of_health_is_a_word() {
    let (face, mut words, _played) = face(done);
    let three = [frame(&Empty {}), frame(&Empty {}), frame(&Empty {})].concat();
    let (answer, trailers) = call(&face, "/agones.dev.sdk.SDK/Health", three).await;
    assert_eq!((answer, status(&trailers)), (frame(&Empty {}), ("0", "")));
    for _ in 0..3 {
        assert_eq!(words.try_recv().unwrap(), SdkWord::Health);
    }
    assert!(words.try_recv().is_err());
}

#[tokio::test]
async fn players_are_counted_found_and_listed() {
    let told = |word: &SdkWord| -> Told {
        if *word != SdkWord::Players {
            return Ok(SdkTold::Changed(matches!(word, SdkWord::PlayerConnect(_))));
        }
        let ids = vec!["ann".to_owned(), "bob".to_owned()];
        Ok(SdkTold::Players(Players { count: Long(2), capacity: Long(8), ids }))
    };
    let player = |player: &str| frame(&PlayerId { player_id: player.to_owned() });
    let bool = |bool| frame(&Bool { bool });
    let list = PlayerIdList { list: vec!["ann".to_owned(), "bob".to_owned()] };
    let cases = [
        ("PlayerConnect", player("cid"), bool(true)),
        ("PlayerDisconnect", player("cid"), bool(false)),
        ("IsPlayerConnected", player("ann"), bool(true)),
        ("IsPlayerConnected", player("cid"), bool(false)),
        ("GetPlayerCount", frame(&Empty {}), frame(&Count { count: 2 })),
        ("GetPlayerCapacity", frame(&Empty {}), frame(&Count { count: 8 })),
        ("GetConnectedPlayers", frame(&Empty {}), frame(&list)),
    ];
    let (face, _words, _played) = face(told);
    for (method, body, expected) in cases {
        let (answer, trailers) = call(&face, &format!("/agones.dev.sdk.alpha.SDK/{method}"), body).await;
        assert_eq!((answer, status(&trailers).0), (expected, "0"), "{method}");
    }
}

#[tokio::test]
async fn what_is_refused_has_a_code_and_a_reason_and_says_nothing() {
    let over = |_: &SdkWord| -> Told { Err(SdkRefusal::Over { instance: "arena-1.0".to_owned() }) };
    let long = KeyValue { key: "a".to_owned(), value: "x".repeat(MESSAGE_BYTES_MAX) };
    let below = Seconds { seconds: -1 };
    // The code, what the reason has, and whether the supervisor was asked.
    let cases = [
        ("SDK/Ready", frame(&Empty {}), "9", "process%20arena-1.0%20is%20over", true),
        ("SDK/WatchGameServer", frame(&Empty {}), "9", "process%20arena-1.0%20is%20over", true),
        ("SDK/Health", frame(&Empty {}), "9", "process%20arena-1.0%20is%20over", true),
        ("SDK/Reserve", frame(&below), "3", "-1%20s", false),
        ("alpha.SDK/SetPlayerCapacity", frame(&Count { count: -1 }), "3", "-1%20players", false),
        ("SDK/SetLabel", frame(&long), "11", "", false),
        ("SDK/SetLabel", vec![0, 0, 0, 0, 2, 0xff, 0xff], "13", "", false),
        ("beta.SDK/GetCounter", frame(&Empty {}), "12", "counters%20and%20lists%20are%20not%20kept", false),
        ("beta.SDK/UpdateList", frame(&Empty {}), "12", "PlayerConnect", false),
    ];
    let (face, mut words, _played) = face(over);
    for (path, body, code, reason, asked) in cases {
        let (answer, trailers) = call(&face, &format!("/agones.dev.sdk.{path}"), body).await;
        let (found, message) = status(&trailers);
        assert!(found == code && message.contains(reason), "{path}: {found} {message}");
        assert!(answer.is_empty(), "{path}");
        assert_eq!(words.try_recv().is_ok(), asked, "{path}");
    }
}
