//! Golden files: every shape that is stored or sent, as it was when it was first written. A file of a version that was
//! released never changes; `GREENROOM_GOLDEN=write` writes those that are missing.

#![expect(clippy::unwrap_used, reason = "the functions beside the tests are tests too")]

mod agent;
mod api;
mod backplane;
mod link;
mod record;
mod scaling;
mod sdk;
mod token;
mod triggers;

use std::fmt::Debug;
use std::path::Path;
use std::str::FromStr;

use greenroom_wire::Text;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

/// A name, checked.
fn text<T: FromStr<Err: Debug>>(text: &str) -> Text<T> {
    Text(text.parse().unwrap())
}

/// Who writes the shape, and so what an unknown field in it means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum From {
    /// Another process of ours, perhaps newer: what it says beyond is ignored.
    Process,
    /// A user: what is not understood is a mistake, and refused.
    User,
}

/// `value` is written as the golden file says, the file is read as `value`, and one more field is dealt with as `from`
/// demands. The file's text.
fn golden<T: Serialize + DeserializeOwned + PartialEq + Debug>(from: From, name: &str, value: &T) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/golden/v1/{name}.json"));
    let written = format!("{}\n", serde_json::to_string_pretty(value).unwrap());
    if std::env::var_os("GREENROOM_GOLDEN").is_some_and(|word| word == "write") && !path.exists() {
        std::fs::write(&path, &written).unwrap();
    }
    let stored = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    assert_eq!(written, stored, "{name} is written in another shape than before");
    assert_eq!(serde_json::from_str::<T>(&stored).unwrap(), *value, "{name} is read as something else");
    let mut more: Value = serde_json::from_str(&stored).unwrap();
    if let Some(fields) = more.as_object_mut() {
        fields.insert("of_a_newer_version".to_owned(), Value::from(1));
        match (from, serde_json::from_value::<T>(more)) {
            (From::Process, read) => assert_eq!(read.unwrap(), *value, "{name} minds an unknown field"),
            (From::User, Err(error)) => {
                let message = error.to_string();
                assert!(message.starts_with("unknown field `of_a_newer_version`"), "{name}: {message}");
            }
            (From::User, Ok(_)) => panic!("{name} takes an unknown field"),
        }
    }
    stored
}
