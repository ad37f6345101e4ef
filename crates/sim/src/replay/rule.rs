//! Policies as they are written on a command line.
//!
//! Never plays anything.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use greenroom_core::Timestamp;
use greenroom_core::autoscale::{Amount, Autoscale, BufferUnit, Metric, Policy};

/// The moment at which a trace begins.
pub(super) const BEGIN: Timestamp = Timestamp::from_unix_ms(1_799_971_200_000);
/// How often the others do, besides at once when somebody waits. Control does it ten times a second.
const PERIOD_S: u32 = 5;
/// How often the field looks at its buffer.
const FIELD_PERIOD_S: u32 = 30;

/// Who decides, how often, and what of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    text: String,
    pub(super) autoscale: Autoscale,
    /// Seconds between two decisions.
    pub(super) period_s: u32,
    /// Whether it knows of the calls that wait.
    pub(super) sees_waiting: bool,
}

/// Why a policy was not understood.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("policy {0:?} is not understood at {1:?}")]
pub struct InvalidRule(pub String, pub String);

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl FromStr for Rule {
    type Err = InvalidRule;

    /// `POLICY[+POLICY…][,out=SECONDS][,in=SECONDS][,settle=SECONDS][,step-out=N][,step-in=N]`, where a policy is
    /// `demand`, `base-stock[:Z]`, `buffer:N`, `buffer:N%`, `average:ROOMS`, `prewarm:N@FROM-UNTIL` (seconds of the
    /// trace) or `field:N` and `field:N%`. All but `field` go with `demand`: calls that wait are seen. `field` is the
    /// buffer as it is used elsewhere: looked at each 30 s, without cool-downs, blind to calls that wait.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let wrong = |part: &str| InvalidRule(text.to_owned(), part.to_owned());
        let mut parts = text.split(',');
        let policies = parts.next().unwrap_or_default();
        let mut rule = if let Some(amount) = policies.strip_prefix("field:") {
            let unit = BufferUnit::Servers;
            let amount = amount_of(amount).ok_or_else(|| wrong(policies))?;
            field(Policy::Buffer { amount, unit })
        } else {
            let mut autoscale = Autoscale::default();
            for word in policies.split('+').filter(|word| *word != "demand") {
                autoscale.policies.push(policy(word).ok_or_else(|| wrong(word))?);
            }
            Self { text: String::new(), autoscale, period_s: PERIOD_S, sees_waiting: true }
        };
        for option in parts {
            set(&mut rule.autoscale, option).ok_or_else(|| wrong(option))?;
        }
        Ok(Self { text: text.to_owned(), ..rule })
    }
}

fn field(policy: Policy) -> Rule {
    let autoscale = Autoscale {
        policies: vec![policy],
        cooldown_out: Duration::ZERO,
        cooldown_in: Duration::ZERO,
        settle_in: Duration::ZERO,
        ..Autoscale::default()
    };
    Rule { text: String::new(), autoscale, period_s: FIELD_PERIOD_S, sees_waiting: false }
}

fn policy(word: &str) -> Option<Policy> {
    let (name, value) = word.split_once(':').unwrap_or((word, ""));
    match name {
        "base-stock" => {
            let z_milli = if value.is_empty() { Some(3_000) } else { thousandths(value) }?;
            Some(Policy::BaseStock { z_milli, start_time: Duration::from_secs(30) })
        }
        "buffer" => Some(Policy::Buffer { amount: amount_of(value)?, unit: BufferUnit::Rooms }),
        "average" => {
            let per_server = value.parse().ok().filter(|rooms| *rooms > 0)?;
            Some(Policy::TargetAverage { metric: Metric::Rooms, per_server, spare: 0 })
        }
        "prewarm" => {
            let (replicas, span) = value.split_once('@')?;
            let (from, until) = span.split_once('-')?;
            let at = |word: &str| Some(BEGIN + Duration::from_secs(word.parse::<u32>().ok()?.into()));
            Some(Policy::Prewarm { replicas: replicas.parse().ok()?, ready_at: at(from)?, until: at(until)? })
        }
        _ => None,
    }
}

fn amount_of(text: &str) -> Option<Amount> {
    match text.strip_suffix('%') {
        Some(percent) => percent.parse().ok().filter(|percent| *percent < 100).map(Amount::Percent),
        None => text.parse().ok().map(Amount::Absolute),
    }
}

/// `3`, `2.5` or `3.09`, in thousandths; at most 10.
fn thousandths(text: &str) -> Option<u32> {
    let (whole, part) = text.split_once('.').unwrap_or((text, "0"));
    let digits = part.len() <= 3 && part.bytes().all(|byte| byte.is_ascii_digit());
    let part: u32 = digits.then(|| format!("{part:0<3}").parse().ok())??;
    let whole: u32 = whole.parse().ok().filter(|whole| *whole <= 10)?;
    Some(whole * 1000 + part)
}

fn set(autoscale: &mut Autoscale, option: &str) -> Option<()> {
    let (name, value) = option.split_once('=')?;
    let number: u32 = value.parse().ok()?;
    let span = Duration::from_secs(number.into());
    match name {
        "out" => autoscale.cooldown_out = span,
        "in" => autoscale.cooldown_in = span,
        "settle" => autoscale.settle_in = span,
        "step-out" if number > 0 => autoscale.step_out_max = number,
        "step-in" if number > 0 => autoscale.step_in_max = number,
        _ => return None,
    }
    Some(())
}
