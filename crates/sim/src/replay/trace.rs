//! Traces: how many rooms were asked for, when, and how long they lived.
//!
//! Never a file: the caller reads it.

/// One stretch of a trace. It lasts until the next row begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Row {
    /// Seconds after the beginning of the trace.
    pub at_s: u32,
    /// Rooms asked for until the next row.
    pub arrivals: u32,
    /// How long they live on average, in seconds.
    pub session_s: u32,
}

/// A whole trace. At least two rows; the last one only marks the end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trace {
    rows: Vec<Row>,
}

/// Why a trace was not understood.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TraceError {
    /// Write `seconds,arrivals,session_s`, three whole numbers.
    #[error("line {line} is {text:?}, not three whole numbers: seconds, arrivals, mean session in seconds")]
    Row {
        /// From 1.
        line: usize,
        /// The line.
        text: String,
    },
    /// Rows are in order, the first one at 0.
    #[error("line {line} begins at second {at_s}; the first begins at 0 and each later than the one before")]
    Order {
        /// From 1.
        line: usize,
        /// Where it begins.
        at_s: u32,
    },
    /// Numbers that no trace has: a slip of the unit.
    #[error("line {line} is out of bounds: {what}")]
    Bounds {
        /// From 1.
        line: usize,
        /// What, and the bound.
        what: &'static str,
    },
    /// There is nothing to play.
    #[error("a trace needs two rows, of which the last one marks its end")]
    Short,
}

const DAYS_31_S: u32 = 31 * 86_400;
const ARRIVALS_MAX: u32 = 1_000_000;
const SESSION_S_MAX: u32 = 86_400;

impl Trace {
    /// Reads lines of three numbers with commas. Empty lines, remarks (`#`) and a line of column names are left out.
    ///
    /// # Errors
    /// The first line that makes no sense.
    pub fn parse(text: &str) -> Result<Self, TraceError> {
        let mut rows: Vec<Row> = Vec::new();
        for (at, line) in text.lines().enumerate() {
            let (line, at) = (line.trim(), at + 1);
            if line.is_empty() || line.starts_with('#') || line.starts_with("seconds,") {
                continue;
            }
            let numbers: Option<Vec<u32>> = line.split(',').map(|word| word.trim().parse().ok()).collect();
            let Some(&[at_s, arrivals, session_s]) = numbers.as_deref() else {
                return Err(TraceError::Row { line: at, text: line.chars().take(60).collect() });
            };
            let in_order = rows.last().map_or(at_s == 0, |last| last.at_s < at_s);
            if !in_order {
                return Err(TraceError::Order { line: at, at_s });
            }
            let out = [
                (at_s > DAYS_31_S, "a trace has at most 31 days"),
                (arrivals > ARRIVALS_MAX, "a row has at most 1000000 arrivals"),
                (session_s == 0 || session_s > SESSION_S_MAX, "a session takes 1 s to 86400 s"),
            ];
            if let Some((_, what)) = out.into_iter().find(|(wrong, _)| *wrong) {
                return Err(TraceError::Bounds { line: at, what });
            }
            rows.push(Row { at_s, arrivals, session_s });
        }
        if rows.len() < 2 {
            return Err(TraceError::Short);
        }
        Ok(Self { rows })
    }

    /// Its rows, the mark of the end left out, each with the second at which the next one begins.
    pub fn stretches(&self) -> impl Iterator<Item = (Row, u32)> {
        self.rows.windows(2).map(|pair| (pair[0], pair[1].at_s))
    }

    /// How long it is.
    #[must_use]
    pub fn seconds(&self) -> u32 {
        self.rows.last().map_or(0, |row| row.at_s)
    }
}
