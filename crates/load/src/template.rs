//! Owns texts with places to fill in: what a player says, and by which key a group meets.
//! Never knows what a text is for.

use std::time::Duration;

use crate::draws::Draws;

/// A text with places to fill in, such as `{"player":"{player}"}`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Template {
    parts: Vec<Part>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    Text(String),
    Place(Place),
}

/// What is filled in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    Player,
    Group,
    Seed,
    Stamp,
    Color,
    Fraction,
    Axis,
    Unit,
}

/// The places, as they are written, each with what is filled in.
pub const PLACES: [(&str, &str); 8] = [
    ("{player}", "the player's id"),
    ("{group}", "number of the player's group"),
    ("{seed}", "the run's seed"),
    ("{stamp}", "number and moment of this event, for the sequence check"),
    ("{color}", "# and six digits: the player's number"),
    ("{fraction}", "number of this event / 65536, for servers that pass on numbers only"),
    ("{axis}", "a drawn whole number from -127 to 127"),
    ("{unit}", "a drawn number from 0 to 1"),
];

const KINDS: [Place; 8] = [
    Place::Player,
    Place::Group,
    Place::Seed,
    Place::Stamp,
    Place::Color,
    Place::Fraction,
    Place::Axis,
    Place::Unit,
];

/// What `{fraction}` is divided by: such a number survives a 32-bit float.
pub const FRACTION: f64 = 65_536.0;

/// Who fills in, and for which event.
#[derive(Debug)]
pub struct Filling<'a> {
    /// The player's id.
    pub player: &'a str,
    /// The player's number.
    pub index: u32,
    /// Number of the player's group.
    pub group: u32,
    /// The run's seed.
    pub seed: u64,
    /// Number of this event among those with a stamp or fraction, from 1.
    pub number: u32,
    /// When it was meant to be sent.
    pub due: Duration,
    /// When it is sent.
    pub now: Duration,
}

impl Template {
    /// Reads a text. Braces that hold no known word stay as they are, as in JSON.
    ///
    /// # Errors
    /// A word in braces that is no place, such as `{plyer}`.
    pub fn parse(text: &str) -> Result<Self, String> {
        let (mut parts, mut plain, mut rest) = (Vec::new(), String::new(), text);
        while let Some(open) = rest.find('{') {
            plain.push_str(&rest[..open]);
            rest = &rest[open..];
            let place = PLACES.iter().zip(KINDS).find(|((word, _), _)| rest.starts_with(word));
            if let Some(((word, _), place)) = place {
                if !plain.is_empty() {
                    parts.push(Part::Text(std::mem::take(&mut plain)));
                }
                parts.push(Part::Place(place));
                rest = &rest[word.len()..];
                continue;
            }
            let word = rest.find('}').map_or("", |close| &rest[1..close]);
            if !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_lowercase()) {
                let known: Vec<_> = PLACES.iter().map(|(word, _)| *word).collect();
                return Err(format!(
                    "has {{{word}}}, which is nothing to fill in; allowed: {}",
                    known.join(", ")
                ));
            }
            plain.push('{');
            rest = &rest[1..];
        }
        plain.push_str(rest);
        if !plain.is_empty() {
            parts.push(Part::Text(plain));
        }
        Ok(Self { parts })
    }

    /// Whether its events are numbered.
    #[must_use]
    pub fn is_numbered(&self) -> bool {
        self.parts.iter().any(|part| matches!(part, Part::Place(Place::Stamp | Place::Fraction)))
    }

    /// The text with everything filled in.
    #[must_use]
    pub fn fill(&self, with: &Filling<'_>, draws: &mut Draws) -> String {
        use std::fmt::Write as _;
        let mut text = String::new();
        for part in &self.parts {
            let place = match part {
                Part::Text(plain) => {
                    text.push_str(plain);
                    continue;
                }
                Part::Place(place) => place,
            };
            let written = match place {
                Place::Player => write!(text, "{}", with.player),
                Place::Group => write!(text, "{}", with.group),
                Place::Seed => write!(text, "{}", with.seed),
                Place::Stamp => {
                    let (due, now) = (with.due.as_micros(), with.now.as_micros());
                    write!(text, "{}@{due}@{now}", with.number)
                }
                Place::Color => write!(text, "#{:06x}", with.index & 0xff_ffff),
                Place::Fraction => write!(text, "{}", f64::from(with.number % 65_536) / FRACTION),
                Place::Axis => {
                    let axis = i64::try_from(draws.below(255)).expect("below 255") - 127;
                    write!(text, "{axis}")
                }
                Place::Unit => {
                    let millionths = u32::try_from(draws.below(1_000_001)).expect("below a million and two");
                    write!(text, "{}", f64::from(millionths) / 1e6)
                }
            };
            written.expect("a String takes everything");
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fill(text: &str) -> String {
        let with = Filling {
            player: "ann",
            index: 42,
            group: 7,
            seed: 3,
            number: 5,
            due: Duration::from_micros(10),
            now: Duration::from_micros(12),
        };
        Template::parse(text).unwrap().fill(&with, &mut Draws::new(1, 1))
    }

    #[test]
    fn places_are_filled_in_and_other_braces_stay() {
        for (text, filled) in [
            (r#"{"player":"{player}"}"#, r#"{"player":"ann"}"#),
            ("\"{stamp}\"", "\"5@10@12\""),
            ("guild:{seed}:{group}", "guild:3:7"),
            (r#"{"a":{},"b":{"c":1}}"#, r#"{"a":{},"b":{"c":1}}"#),
            (r#"["{color}",{fraction}]"#, r##"["#00002a",0.0000762939453125]"##),
            ("{", "{"),
            ("", ""),
        ] {
            assert_eq!(fill(text), filled, "{text}");
        }
        let axis: i32 = fill("{axis}").parse().unwrap();
        assert!((-127..=127).contains(&axis));
        let unit: f64 = fill("{unit}").parse().unwrap();
        assert!((0.0..=1.0).contains(&unit));
    }

    #[test]
    fn a_word_that_is_no_place_is_told() {
        let error = Template::parse(r#"{"a":"{plyer}"}"#).unwrap_err();
        assert!(
            error.starts_with("has {plyer}, which is nothing to fill in; allowed: {player}, "),
            "{error}"
        );
    }
}
