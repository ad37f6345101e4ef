//! Faults of a configuration file: where each stands, and how they are all shown to a person.
//!
//! Never decides what a fault is.

use std::fmt::{self, Write as _};
use std::ops::Range;

/// One thing that is wrong, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Fault {
    /// Bytes of the file it is about.
    pub(crate) span: Range<usize>,
    /// What is wrong and what is allowed.
    pub(crate) message: String,
    /// What sort of fault, so that faults caused by another fault can be left out.
    pub(crate) kind: FaultKind,
}

impl Fault {
    /// What the TOML reader could not read.
    pub(crate) fn of_syntax(error: &toml::de::Error) -> Self {
        Self {
            span: error.span().unwrap_or(0..0),
            message: error.message().to_owned(),
            kind: FaultKind::Syntax,
        }
    }
}

/// Sorts of faults.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum FaultKind {
    /// The text is not TOML.
    Syntax,
    /// Something that must be there is not.
    Missing,
    /// What is there is not allowed.
    Value,
}

/// All faults of one file, in the order of the file. Never empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Faults {
    file: String,
    text: String,
    faults: Vec<Fault>,
}

impl Faults {
    /// `Some` when there is at least one fault. A broken line is told once, and what seems to be missing is not told
    /// at all while lines are broken: the broken one may have held it.
    pub(crate) fn of(file: &str, text: &str, mut faults: Vec<Fault>) -> Option<Self> {
        let broken: Vec<usize> = faults
            .iter()
            .filter(|fault| fault.kind == FaultKind::Syntax)
            .map(|fault| position(text, fault.span.start).line)
            .collect();
        let mut told = Vec::new();
        faults.retain(|fault| {
            let line = position(text, fault.span.start).line;
            match fault.kind {
                FaultKind::Syntax => {
                    let first = !told.contains(&line);
                    told.push(line);
                    first
                }
                FaultKind::Missing => broken.is_empty(),
                FaultKind::Value => !broken.contains(&line),
            }
        });
        faults.sort_by_key(|fault| (fault.span.start, fault.message.clone()));
        faults.dedup_by(|b, a| a.span == b.span && a.message == b.message);
        (!faults.is_empty()).then(|| Self { file: file.to_owned(), text: text.to_owned(), faults })
    }
}

impl fmt::Display for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let count = self.faults.len();
        let noun = if count == 1 { "fault" } else { "faults" };
        write!(f, "{} has {count} {noun}; nothing was applied", self.file)?;
        for fault in &self.faults {
            let at = position(&self.text, fault.span.start);
            write!(f, "\n\n{}:{}:{}: {}", self.file, at.line, at.column, fault.message)?;
            f.write_str(&excerpt(&self.text, &fault.span, &at))?;
        }
        Ok(())
    }
}

struct Position {
    /// From 1.
    line: usize,
    /// From 1, in characters.
    column: usize,
    /// Bytes of the line, without its end.
    bytes: Range<usize>,
}

fn position(text: &str, offset: usize) -> Position {
    let offset = floor_char(text, offset);
    let start = text[..offset].rfind('\n').map_or(0, |newline| newline + 1);
    let end = text[offset..].find('\n').map_or(text.len(), |newline| offset + newline);
    Position {
        line: text[..offset].matches('\n').count() + 1,
        column: text[start..offset].chars().count() + 1,
        bytes: start..end,
    }
}

fn floor_char(text: &str, offset: usize) -> usize {
    let mut offset = offset.min(text.len());
    while !text.is_char_boundary(offset) {
        offset -= 1;
    }
    offset
}

/// The line with a mark under what is meant. Long lines and control characters would hide the mark: then none.
fn excerpt(text: &str, span: &Range<usize>, at: &Position) -> String {
    const CHARS_MAX: usize = 100;
    let line = text[at.bytes.clone()].trim_end();
    let mut out = String::new();
    if line.chars().count() > CHARS_MAX || line.chars().any(|c| c.is_control() && c != '\t') {
        return out;
    }
    let end = floor_char(text, span.end).min(at.bytes.start + line.len());
    let marked = text.get(span.start..end).map_or(1, |part| part.chars().count()).max(1);
    let number = at.line.to_string();
    let shown = line.replace('\t', " ");
    let _infallible = write!(
        out,
        "\n  {number} | {shown}\n  {:w$} | {:p$}{}",
        "",
        "",
        "^".repeat(marked),
        w = number.len(),
        p = at.column - 1
    );
    out
}
