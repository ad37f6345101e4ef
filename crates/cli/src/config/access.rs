//! Reads `[[control.tokens]]`: who may call the API.
//!
//! Never reads a token: the file holds references only.

use greenroom_control::Role;
use greenroom_wire::secret::SecretRef;

use super::TokenSection;
use super::fault::Fault;
use super::reader::{Section, missing, value_fault};

/// The tokens, and whether any were written at all: a faulty one is told as such, not as being absent.
pub(super) fn tokens(control: &mut Section<'_>, faults: &mut Vec<Fault>) -> (Vec<TokenSection>, bool) {
    let Some(tables) = control.tables("tokens", faults) else { return (Vec::new(), false) };
    let written = !tables.is_empty();
    let mut tokens: Vec<TokenSection> = Vec::new();
    for table in tables {
        let mut section = Section::new("[[control.tokens]]", table.span.clone(), table.value);
        for (key, example) in
            [("name", "\"backend\""), ("role", "\"operate\""), ("from", "\"file:/run/secrets/backend\"")]
        {
            if section.key_span(key).is_none() {
                let message = format!("a token has no {key}; write for example {key} = {example}");
                faults.push(missing(table.span.clone(), message));
            }
        }
        let name = section.parsed("name", faults, |text| {
            let fits = (1..=64).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic());
            let message = format!("is {text:?}; write 1 to 64 visible ASCII characters, such as \"backend\"");
            if fits { Ok(text.to_owned()) } else { Err(message) }
        });
        let role = section.parsed("role", faults, |text| {
            let allowed = "allowed: \"read\", \"operate\", \"admin\", \"agent\"";
            text.parse::<Role>().map_err(|_| format!("is {text:?}; {allowed}"))
        });
        let from = section
            .parsed("from", faults, |text| text.parse::<SecretRef>().map_err(|error| error.to_string()));
        section.finish(faults);
        let (Some(name), Some(role), Some(from)) = (name, role, from) else { continue };
        if tokens.iter().any(|known| known.name == name.value) {
            faults.push(value_fault(
                name.span,
                format!(
                    "two tokens have the name {:?}; two tokens of one bearer go into one file, one a line",
                    name.value
                ),
            ));
        }
        tokens.push(TokenSection { name: name.value, role: role.value, from: from.value });
    }
    (tokens, written)
}
