//! Owns the checking of raw JSON text: that it is JSON, not too deep, and where its elements lie.
//! Never builds values: what passes is handed on as the bytes it came in.

use crate::limits::JSON_DEPTH_CEILING;

/// Why a text is no JSON that this process hands on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum JsonError {
    /// The text breaks the grammar.
    #[error("invalid json at byte {at}")]
    Syntax {
        /// Where, in bytes from the start of the JSON.
        at: usize,
    },
    /// Arrays and objects are nested too deep.
    #[error("json is nested deeper than {depth_max}")]
    TooDeep {
        /// The limit that was crossed.
        depth_max: usize,
    },
}

/// A walk over JSON text. All moves are linear in the text; nothing recurses.
#[derive(Debug, Clone)]
pub(super) struct Scanner<'a> {
    text: &'a [u8],
    at: usize,
    depth_max: usize,
}

impl<'a> Scanner<'a> {
    pub(super) fn new(text: &'a str, depth_max: usize) -> Self {
        Self { text: text.as_bytes(), at: 0, depth_max: depth_max.min(JSON_DEPTH_CEILING) }
    }

    pub(super) fn at(&self) -> usize {
        self.at
    }

    pub(super) fn peek(&self) -> Option<u8> {
        self.text.get(self.at).copied()
    }

    fn fault<T>(&self) -> Result<T, JsonError> {
        Err(JsonError::Syntax { at: self.at })
    }

    pub(super) fn space(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\n' | b'\r')) {
            self.at += 1;
        }
    }

    /// Takes `byte` if it comes next.
    pub(super) fn take(&mut self, byte: u8) -> bool {
        let taken = self.peek() == Some(byte);
        self.at += usize::from(taken);
        taken
    }

    /// Only space may be left.
    pub(super) fn end(&mut self) -> Result<(), JsonError> {
        self.space();
        if self.at == self.text.len() { Ok(()) } else { self.fault() }
    }

    /// Takes a string with its quotes.
    pub(super) fn string(&mut self) -> Result<(), JsonError> {
        if !self.take(b'"') {
            return self.fault();
        }
        loop {
            match self.peek() {
                Some(b'"') => {
                    self.at += 1;
                    return Ok(());
                }
                Some(b'\\') => {
                    self.at += 1;
                    self.escape()?;
                }
                None | Some(0..=0x1f) => return self.fault(),
                Some(_) => self.at += 1,
            }
        }
    }

    fn escape(&mut self) -> Result<(), JsonError> {
        match self.peek() {
            Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => self.at += 1,
            Some(b'u') => {
                self.at += 1;
                for _ in 0..4 {
                    if !self.peek().is_some_and(|byte| byte.is_ascii_hexdigit()) {
                        return self.fault();
                    }
                    self.at += 1;
                }
            }
            _ => return self.fault(),
        }
        Ok(())
    }

    fn digits(&mut self) -> Result<(), JsonError> {
        let start = self.at;
        while self.peek().is_some_and(|byte| byte.is_ascii_digit()) {
            self.at += 1;
        }
        if self.at == start { self.fault() } else { Ok(()) }
    }

    /// Takes a number.
    pub(super) fn number(&mut self) -> Result<(), JsonError> {
        self.take(b'-');
        if !self.take(b'0') {
            self.digits()?;
        }
        if self.take(b'.') {
            self.digits()?;
        }
        if self.take(b'e') || self.take(b'E') {
            let _sign = self.take(b'+') || self.take(b'-');
            self.digits()?;
        }
        Ok(())
    }

    fn word(&mut self, word: &[u8]) -> Result<(), JsonError> {
        if self.text[self.at..].starts_with(word) {
            self.at += word.len();
            Ok(())
        } else {
            self.fault()
        }
    }

    /// Takes a string, number or word.
    fn scalar(&mut self) -> Result<(), JsonError> {
        match self.peek() {
            Some(b'"') => self.string(),
            Some(b'-' | b'0'..=b'9') => self.number(),
            Some(b't') => self.word(b"true"),
            Some(b'f') => self.word(b"false"),
            Some(b'n') => self.word(b"null"),
            _ => self.fault(),
        }
    }

    /// Takes one value, space before and after it too. `depth` is how deep it already stands.
    pub(super) fn value(&mut self, depth: usize) -> Result<(), JsonError> {
        self.walk(depth, |_, _| Ok(()))
    }

    /// Takes one value and tells `visit` of what passes in it, in order.
    pub(super) fn walk<E: From<JsonError>>(
        &mut self,
        depth: usize,
        mut visit: impl FnMut(Passed, &'a [u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        // One bit for each open bracket, the innermost lowest: 1 is an object.
        let (mut brackets, mut open) = (0u128, 0usize);
        loop {
            self.space();
            match self.peek() {
                Some(bracket @ (b'[' | b'{')) => {
                    if depth + open >= self.depth_max {
                        return Err(JsonError::TooDeep { depth_max: self.depth_max }.into());
                    }
                    self.at += 1;
                    brackets = brackets << 1 | u128::from(bracket == b'{');
                    open += 1;
                    if bracket == b'{' {
                        visit(Passed::ObjectOpen, &[])?;
                    }
                    self.space();
                    if bracket == b'{' && self.peek() != Some(b'}') {
                        self.key(&mut visit)?;
                        continue;
                    }
                    if bracket == b'[' && self.peek() != Some(b']') {
                        continue;
                    }
                }
                _ => {
                    let start = self.at;
                    self.scalar()?;
                    if open > 0 && brackets & 1 == 1 {
                        visit(Passed::Scalar, &self.text[start..self.at])?;
                    }
                }
            }
            // A value is complete; close what closes after it.
            loop {
                self.space();
                if open == 0 {
                    return Ok(());
                }
                let object = brackets & 1 == 1;
                if self.take(b',') {
                    if object {
                        self.space();
                        self.key(&mut visit)?;
                    }
                    break;
                }
                if !self.take(if object { b'}' } else { b']' }) {
                    return Err(JsonError::Syntax { at: self.at }.into());
                }
                if object {
                    visit(Passed::ObjectClose, &[])?;
                }
                brackets >>= 1;
                open -= 1;
            }
        }
    }

    fn key<E: From<JsonError>>(
        &mut self,
        visit: &mut impl FnMut(Passed, &'a [u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        let start = self.at;
        self.string()?;
        visit(Passed::Key, &self.text[start..self.at])?;
        self.space();
        if self.take(b':') { Ok(()) } else { Err(JsonError::Syntax { at: self.at }.into()) }
    }
}

/// What a walk met inside objects.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Passed {
    /// An object begins.
    ObjectOpen,
    /// A key, with its quotes.
    Key,
    /// A string, number or word that is the value of a key.
    Scalar,
    /// The innermost object ends.
    ObjectClose,
}

/// Checks that `text` is one JSON value and nothing else. `depth` is how deep it will stand.
pub(super) fn check(text: &str, depth: usize, depth_max: usize) -> Result<(), JsonError> {
    let mut scanner = Scanner::new(text, depth_max);
    scanner.value(depth)?;
    scanner.end()
}

/// The elements of the inside of a JSON array that was checked before: the raw text of each.
#[derive(Debug, Clone)]
pub struct Args<'a> {
    inside: &'a str,
}

impl<'a> Args<'a> {
    /// `inside` is what stands between the brackets of an array already checked.
    pub(super) fn new(inside: &'a str) -> Self {
        Self { inside }
    }
}

impl<'a> Iterator for Args<'a> {
    type Item = &'a str;

    fn next(&mut self) -> Option<&'a str> {
        let mut scanner = Scanner::new(self.inside, JSON_DEPTH_CEILING);
        // The text was checked, so a fault can only mean that there is nothing left.
        scanner.value(0).ok()?;
        let (element, rest) = self.inside.split_at(scanner.at());
        self.inside = rest.strip_prefix(',').unwrap_or(rest);
        Some(element.trim_matches([' ', '\t', '\n', '\r']))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde::de::IgnoredAny;

    use super::*;

    #[test]
    fn the_grammar_is_kept_to_the_letter() {
        for text in [
            "0",
            "-0",
            "1.5e+3",
            "\"\"",
            "\"\\u00e9\\n\"",
            "true",
            " [ ] ",
            "{ }",
            "[1,{\"a\":[null]}]",
            "\"\\ud800\"",
        ] {
            assert_eq!(check(text, 0, 64), Ok(()), "{text}");
        }
        for text in [
            "",
            " ",
            "01",
            "+1",
            ".5",
            "1.",
            "1e",
            "-",
            "tru",
            "nul",
            "'a'",
            "\"",
            "\"\\x\"",
            "\"\\u12g4\"",
            "\"\n\"",
            "[1,]",
            "[,1]",
            "[1 2]",
            "[",
            "]",
            "{",
            "{\"a\"}",
            "{\"a\":}",
            "{\"a\":1,}",
            "{a:1}",
            "[}",
            "{]",
            "1 2",
            "[1}",
            "{\"a\":1]",
            "[[]",
            "[]]",
            "NaN",
        ] {
            assert!(check(text, 0, 64).is_err(), "{text}");
        }
    }

    #[test]
    fn control_characters_in_strings_need_an_escape() {
        for code in 0..=0x7f_u8 {
            let text = format!("\"{}\"", char::from(code));
            let allowed = code >= 0x20 && code != b'"' && code != b'\\';
            assert_eq!(check(&text, 0, 64).is_ok(), allowed, "{text:?}");
        }
    }

    #[test]
    fn nesting_is_bounded_without_recursion() {
        let deep = |depth: usize| "[".repeat(depth) + &"]".repeat(depth);
        assert_eq!(check(&deep(64), 0, 64), Ok(()));
        assert_eq!(check(&deep(65), 0, 64), Err(JsonError::TooDeep { depth_max: 64 }));
        assert_eq!(check(&deep(64), 1, 64), Err(JsonError::TooDeep { depth_max: 64 }));
        assert_eq!(check(&deep(128), 0, usize::MAX), Ok(()));
        assert_eq!(check(&deep(1_000_000), 0, usize::MAX), Err(JsonError::TooDeep { depth_max: 128 }));
    }

    proptest! {
        #[test]
        fn it_accepts_exactly_what_serde_json_accepts(
            text in r#"[\[\]{},:" \\/u0-9a.eE+\-tnulrfs]{0,12}|[\[{"](:?[\[\]{},:1a ]|"a"|"a":|true|null){0,12}[\]}"]"#,
        ) {
            let expected = serde_json::from_str::<IgnoredAny>(&text).is_ok();
            prop_assert_eq!(check(&text, 0, 64).is_ok(), expected, "{}", text);
        }

        #[test]
        fn args_are_the_elements_of_the_array(values in prop::collection::vec("[a-z,\\[\\]\"\\\\ ]{0,6}", 0..6)) {
            let json = serde_json::to_string(&values).unwrap();
            let args: Vec<String> = Args::new(&json[1..json.len() - 1])
                .map(|raw| serde_json::from_str(raw).unwrap())
                .collect();
            prop_assert_eq!(args, values);
        }
    }
}
