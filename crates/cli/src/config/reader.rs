//! Reads typed values out of a TOML table and collects every fault on the way.
//!
//! Never stops at the first fault and never knows what the values mean.

use std::ops::{Range, RangeInclusive};
use std::str::FromStr;
use std::time::Duration;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::fault::{Fault, FaultKind};

/// A value with the bytes of the file it came from.
#[derive(Debug, Clone)]
pub(crate) struct Found<T> {
    pub(crate) value: T,
    pub(crate) span: Range<usize>,
}

/// One table being read. Every key that is asked for becomes a known one; `finish` tells about the others.
pub(crate) struct Section<'a> {
    /// How people call it: `[control]`, `[fleets.arena]`.
    pub(crate) title: String,
    /// Its header.
    pub(crate) span: Range<usize>,
    table: &'a DeTable<'a>,
    known: Vec<&'static str>,
}

impl<'a> Section<'a> {
    pub(crate) fn new(title: impl Into<String>, span: Range<usize>, table: &'a DeTable<'a>) -> Self {
        Self { title: title.into(), span, table, known: Vec::new() }
    }

    /// The value of `key`, if it is there.
    fn get(&mut self, key: &'static str) -> Option<&'a Spanned<DeValue<'a>>> {
        self.known.push(key);
        self.table.get(key)
    }

    /// Where `key` stands, for faults about its presence.
    pub(crate) fn key_span(&self, key: &str) -> Option<Range<usize>> {
        self.table.get_key_value(key).map(|(name, _)| name.span())
    }

    /// Tells of keys that nobody asked for.
    pub(crate) fn finish(self, faults: &mut Vec<Fault>) {
        for name in self.table.keys() {
            let text = name.get_ref().as_ref();
            if !self.known.contains(&text) {
                let hint = did_you_mean(text, &self.known)
                    .unwrap_or_else(|| format!("allowed: {}", self.known.join(", ")));
                faults.push(value_fault(
                    name.span(),
                    format!("unknown key `{text}` in {}; {hint}", self.title),
                ));
            }
        }
    }

    /// A sub-table; an empty one's place is taken by `None`.
    pub(crate) fn table(
        &mut self,
        key: &'static str,
        faults: &mut Vec<Fault>,
    ) -> Option<Found<&'a DeTable<'a>>> {
        let value = self.get(key)?;
        let found = value.get_ref().as_table().map(|table| Found { value: table, span: value.span() });
        if found.is_none() {
            faults.push(wrong_type(key, value, "a table", &format!("[{key}]")));
        }
        found
    }

    /// A text.
    pub(crate) fn text(&mut self, key: &'static str, faults: &mut Vec<Fault>) -> Option<Found<&'a str>> {
        let value = self.get(key)?;
        let found = value.get_ref().as_str().map(|text| Found { value: text, span: value.span() });
        if found.is_none() {
            faults.push(wrong_type(key, value, "a text in quotes", &format!("{key} = \"...\"")));
        }
        found
    }

    /// A text that is parsed; the parse error is the fault.
    pub(crate) fn parsed<T>(
        &mut self,
        key: &'static str,
        faults: &mut Vec<Fault>,
        parse: impl FnOnce(&str) -> Result<T, String>,
    ) -> Option<Found<T>> {
        let text = self.text(key, faults)?;
        match parse(text.value) {
            Ok(value) => Some(Found { value, span: text.span }),
            Err(why) => {
                faults.push(value_fault(text.span, format!("{key} {why}")));
                None
            }
        }
    }

    /// A whole number within bounds.
    pub(crate) fn integer<T: TryFrom<i64>>(
        &mut self,
        key: &'static str,
        allowed: RangeInclusive<i64>,
        faults: &mut Vec<Fault>,
    ) -> Option<Found<T>> {
        let value = self.get(key)?;
        let Some(number) = value.get_ref().as_integer() else {
            faults.push(wrong_type(key, value, "a whole number", &format!("{key} = {}", allowed.start())));
            return None;
        };
        let in_bounds = i64::from_str_radix(number.as_str(), number.radix())
            .ok()
            .filter(|number| allowed.contains(number))
            .and_then(|number| T::try_from(number).ok());
        if in_bounds.is_none() {
            let text = number.as_str();
            faults.push(value_fault(
                value.span(),
                format!("{key} is {text}; allowed: {} to {}", allowed.start(), allowed.end()),
            ));
        }
        in_bounds.map(|number| Found { value: number, span: value.span() })
    }

    /// A number within bounds, with a point or without.
    pub(crate) fn number(
        &mut self,
        key: &'static str,
        allowed: RangeInclusive<f64>,
        faults: &mut Vec<Fault>,
    ) -> Option<Found<f64>> {
        let value = self.get(key)?;
        let (float, integer) = (value.get_ref().as_float(), value.get_ref().as_integer());
        let text = float.map(|number| number.as_str()).or(integer.map(|number| number.as_str()));
        let Some(text) = text else {
            faults.push(wrong_type(key, value, "a number", &format!("{key} = {}", allowed.end())));
            return None;
        };
        let number = text.parse().ok().filter(|number| allowed.contains(number));
        if number.is_none() {
            let (least, most) = (allowed.start(), allowed.end());
            faults.push(value_fault(value.span(), format!("{key} is {text}; allowed: {least} to {most}")));
        }
        number.map(|number| Found { value: number, span: value.span() })
    }

    /// `true` or `false`.
    pub(crate) fn flag(&mut self, key: &'static str, faults: &mut Vec<Fault>) -> Option<Found<bool>> {
        let value = self.get(key)?;
        let found = value.get_ref().as_bool().map(|flag| Found { value: flag, span: value.span() });
        if found.is_none() {
            faults.push(wrong_type(key, value, "true or false", &format!("{key} = true")));
        }
        found
    }

    /// A list of tables, as `[[key]]` makes it.
    pub(crate) fn tables(
        &mut self,
        key: &'static str,
        faults: &mut Vec<Fault>,
    ) -> Option<Vec<Found<&'a DeTable<'a>>>> {
        let value = self.get(key)?;
        let Some(items) = value.get_ref().as_array() else {
            faults.push(wrong_type(key, value, "a list of tables", &format!("[[{key}]]")));
            return None;
        };
        let mut tables = Vec::new();
        for item in items.iter() {
            match item.get_ref().as_table() {
                Some(table) => tables.push(Found { value: table, span: item.span() }),
                None => faults.push(wrong_type(key, item, "a table in each place", &format!("[[{key}]]"))),
            }
        }
        Some(tables)
    }

    /// A span of time such as `10s`, `1h 30m`, within bounds.
    pub(crate) fn duration(
        &mut self,
        key: &'static str,
        allowed: RangeInclusive<Duration>,
        faults: &mut Vec<Fault>,
    ) -> Option<Found<Duration>> {
        if let Some(value) = self.table.get(key)
            && value.get_ref().as_str().is_none()
        {
            self.known.push(key);
            faults.push(wrong_type(key, value, "a span of time in quotes", &format!("{key} = \"10s\"")));
            return None;
        }
        self.parsed(key, faults, |text| {
            let bounds = || {
                let (least, most) = (allowed.start(), allowed.end());
                format!("{} to {}", humantime::format_duration(*least), humantime::format_duration(*most))
            };
            let span = humantime::parse_duration(text).map_err(|_unreadable| {
                format!("is {text:?}, which is no span of time; write a number and a unit, such as \"10s\", \"250ms\", \"1h 30m\"")
            })?;
            if allowed.contains(&span) { Ok(span) } else { Err(format!("is {text:?}; allowed: {}", bounds())) }
        })
    }

    /// A list of texts.
    pub(crate) fn texts(
        &mut self,
        key: &'static str,
        faults: &mut Vec<Fault>,
    ) -> Option<Found<Vec<Found<&'a str>>>> {
        let value = self.get(key)?;
        let Some(items) = value.get_ref().as_array() else {
            faults.push(wrong_type(key, value, "a list of texts", &format!("{key} = [\"...\", \"...\"]")));
            return None;
        };
        let mut texts = Vec::new();
        for item in items.iter() {
            match item.get_ref().as_str() {
                Some(text) => texts.push(Found { value: text, span: item.span() }),
                None => faults.push(wrong_type(key, item, "a text in quotes in each place", "\"...\"")),
            }
        }
        (texts.len() == items.len()).then(|| Found { value: texts, span: value.span() })
    }
}

/// A fault about a value.
pub(crate) fn value_fault(span: Range<usize>, message: impl Into<String>) -> Fault {
    Fault { span, message: message.into(), kind: FaultKind::Value }
}

/// A fault about something that is not there.
pub(crate) fn missing(span: Range<usize>, message: impl Into<String>) -> Fault {
    Fault { span, message: message.into(), kind: FaultKind::Missing }
}

/// A fault about a value of another type than asked.
pub(crate) fn wrong_type(key: &str, value: &Spanned<DeValue<'_>>, wanted: &str, example: &str) -> Fault {
    let found = value.get_ref().type_str();
    let article = if found.starts_with(['a', 'e', 'i', 'o', 'u']) { "an" } else { "a" };
    value_fault(
        value.span(),
        format!("{key} must be {wanted}, this is {article} {found}; for example {example}"),
    )
}

/// Parses with the type's own check.
pub(crate) fn from_text<T: FromStr>(text: &str) -> Result<T, String>
where
    T::Err: std::fmt::Display,
{
    text.parse().map_err(|error: T::Err| format!("is {text:?}: {error}"))
}

/// `did you mean ...?` when a known word is near.
pub(crate) fn did_you_mean(text: &str, known: &[&str]) -> Option<String> {
    const NEAR_ENOUGH: f64 = 0.8;
    let score = |word: &&str| strsim::jaro_winkler(text, word);
    let best = known.iter().copied().max_by(|a, b| score(a).total_cmp(&score(b)))?;
    (score(&best) >= NEAR_ENOUGH).then(|| format!("did you mean `{best}`?"))
}
