//! What a gameserver says of itself over the SDK: that it is ready, that it lives, its labels; and who watches it.
//!
//! Never judges a server whose fleet is probed from outside: what such a one says of its health is taken and changes nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use greenroom_core::Timestamp;
use greenroom_wire::agent::{ProbeWord, ProcessPhase};
use greenroom_wire::sdk::{self, GameServer, Long, ObjectMeta, Port, Spec};

use super::{Effect, Health, Managed, Out, Settings, Stage};
use crate::supervisor::sdk::{SdkCall, SdkRefusal, SdkTold};

/// Most labels of one process.
const LABELS_MAX: usize = 16;
/// Longest name and longest value of a label, in bytes.
const LABEL_BYTES_MAX: usize = 63;
/// Most watches of one process.
const WATCHES_MAX: usize = 8;
/// Words that must be missing before a server is unhealthy, as it is told: its fleet's bound is a multiple of that.
const WORDS: u32 = 3;

/// What one process has said of itself.
#[derive(Debug, Default)]
pub(super) struct OwnWord {
    /// It can take players. Kept beside its health, for it may say so before its start is known here.
    is_ready: bool,
    pub(super) labels: BTreeMap<String, String>,
    watches: BTreeSet<SdkCall>,
    /// What its watches were shown last.
    shown: Option<Box<GameServer>>,
}

impl Health {
    /// When the next word is due.
    pub(super) fn own_word_due(&self) -> Option<Timestamp> {
        (self.ready && self.failures == 0).then_some(self.probe_at)
    }

    fn own_word_heard(&mut self, now: Timestamp, silence: Duration) {
        self.probe_at = now + silence;
        self.failures = 0;
        if self.ready {
            self.probe_error.clear();
        }
    }
}

impl Managed {
    const fn silence(&self) -> Option<Duration> {
        match self.order.probe {
            ProbeWord::Sdk { silence_ms } => Some(Duration::from_millis(silence_ms)),
            ProbeWord::EngineIo | ProbeWord::Tcp | ProbeWord::Http(_) => None,
        }
    }

    /// A process is there. It may have spoken already.
    pub(super) fn begin_own_word(&self, health: &mut Health, now: Timestamp) {
        let Some(silence) = self.silence() else { return };
        health.ready |= self.own_word.is_ready;
        "it has not called POST /ready of its SDK".clone_into(&mut health.probe_error);
        health.own_word_heard(now, silence);
    }

    /// It says that it can take players.
    pub(in super::super) fn says_ready(&mut self, now: Timestamp, out: &mut Out) {
        self.own_word.is_ready = true;
        if let (Some(_), Stage::Running { health, .. }) = (self.silence(), &mut self.stage) {
            out.dirty |= !health.ready;
            out.changed |= !health.ready;
            health.ready = true;
        }
        self.says_alive(now, out);
    }

    /// It says that it lives.
    pub(in super::super) fn says_alive(&mut self, now: Timestamp, out: &mut Out) {
        let Some(silence) = self.silence() else { return };
        let Stage::Running { health, .. } = &mut self.stage else { return };
        let before = health.phase();
        health.own_word_heard(now, silence);
        out.changed |= before != health.phase();
    }

    /// Notices its silence.
    pub(super) fn mind_own_word(&mut self, now: Timestamp, out: &mut Out) {
        let Some(silence) = self.silence() else { return };
        let Stage::Running { health, .. } = &mut self.stage else { return };
        if health.own_word_due().is_some_and(|at| at <= now) {
            tracing::warn!(server = %self.order.server, silence_ms = silence.as_millis(), "gameserver says nothing of its health");
            // No probe asks again, so this one counts for all: with a silent link too it is frozen.
            health.failures = u32::MAX;
            health.probe_error = format!("it has not called POST /health of its SDK for {silence:?}");
            out.changed = true;
        }
    }

    /// Sets a label, or takes it away with an empty value.
    pub(in super::super) fn set_label(
        &mut self,
        name: String,
        value: String,
        out: &mut Out,
    ) -> Result<(), SdkRefusal> {
        if !is_label(&name) {
            return Err(SdkRefusal::LabelName { name });
        }
        let labels = &mut self.own_word.labels;
        let is_new = if value.is_empty() {
            labels.remove(&name).is_some()
        } else if !is_label(&value) {
            return Err(SdkRefusal::LabelValue { name, value });
        } else if labels.len() >= LABELS_MAX && !labels.contains_key(&name) {
            return Err(SdkRefusal::Labels { max: LABELS_MAX });
        } else {
            labels.insert(name, value.clone()) != Some(value)
        };
        out.dirty |= is_new;
        out.changed |= is_new;
        Ok(())
    }

    pub(super) fn labels(&self) -> BTreeMap<String, String> {
        self.own_word.labels.clone()
    }

    /// Shows its record to this call, now and whenever it changes.
    pub(in super::super) fn watch(
        &mut self,
        call: SdkCall,
        settings: &Settings,
        out: &mut Out,
    ) -> Result<(), SdkRefusal> {
        if self.own_word.watches.len() >= WATCHES_MAX {
            return Err(SdkRefusal::Watches { max: WATCHES_MAX });
        }
        // What the others have not been shown yet comes to all at the end of this step.
        let told = Ok(SdkTold::GameServer(Box::new(self.record(settings))));
        out.effects.push(Effect::TellSdk { call, told });
        self.own_word.watches.insert(call);
        Ok(())
    }

    pub(in super::super) fn unwatch(&mut self, call: SdkCall) {
        self.own_word.watches.remove(&call);
    }

    pub(super) fn show_record(&mut self, settings: &Settings, out: &mut Out) {
        if self.own_word.watches.is_empty() {
            self.own_word.shown = None;
            return;
        }
        let record = Box::new(self.record(settings));
        if self.own_word.shown.as_ref() == Some(&record) {
            return;
        }
        // The first watch was shown it when it came.
        if self.own_word.shown.is_some() {
            for call in &self.own_word.watches {
                let told = Ok(SdkTold::GameServer(record.clone()));
                out.effects.push(Effect::TellSdk { call: *call, told });
            }
        }
        self.own_word.shown = Some(record);
    }

    /// Its process is over.
    pub(super) fn forget_own_word(&mut self, out: &mut Out) {
        let said = std::mem::take(&mut self.own_word);
        out.effects.extend(said.watches.into_iter().map(|call| Effect::EndSdk { call }));
    }

    /// What this agent knows of it, as Agones would say it.
    pub(in super::super) fn record(&self, settings: &Settings) -> GameServer {
        let label = |(name, value): (&String, &String)| (format!("agones.dev/sdk-{name}"), value.clone());
        let mut labels: BTreeMap<String, String> = self.own_word.labels.iter().map(label).collect();
        labels.insert("agones.dev/fleet".to_owned(), self.order.fleet.to_string());
        let silence_s = self.silence().unwrap_or_default().as_secs();
        let period_seconds = u32::try_from(silence_s).unwrap_or(u32::MAX) / WORDS;
        let is_used = self.status.connections > 0 || !self.status.rooms.is_empty();
        let state = match self.phase() {
            ProcessPhase::Starting | ProcessPhase::Restarting => "Scheduled",
            ProcessPhase::Ready if is_used => "Allocated",
            ProcessPhase::Ready => "Ready",
            ProcessPhase::Unhealthy => "Unhealthy",
            ProcessPhase::Stopping | ProcessPhase::Ended => "Shutdown",
        };
        GameServer {
            object_meta: ObjectMeta {
                name: self.order.server.to_string(),
                namespace: settings.host.to_string(),
                uid: self.instance().to_string(),
                resource_version: String::new(),
                generation: Long(u64::from(self.restarts) + 1),
                creation_timestamp: Long(self.started_at.unix_ms() / 1_000),
                deletion_timestamp: Long(0),
                annotations: [("greenroom/revision".to_owned(), self.order.revision.to_string())].into(),
                labels,
            },
            spec: Spec {
                health: sdk::Health {
                    disabled: self.silence().is_none(),
                    period_seconds: period_seconds.max(1),
                    failure_threshold: WORDS,
                    initial_delay_seconds: 0,
                },
            },
            status: sdk::Status {
                state: state.to_owned(),
                address: settings.public_host.clone(),
                ports: vec![Port { name: "default".to_owned(), port: settings.dialled(self.port) }],
            },
        }
    }
}

/// 1 to 63 letters, digits, `-`, `_` and `.`, with a letter or a digit at each end.
fn is_label(text: &str) -> bool {
    let (first, last) = (text.bytes().next(), text.bytes().last());
    let is_end = |byte: Option<u8>| byte.is_some_and(|byte| byte.is_ascii_alphanumeric());
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    text.len() <= LABEL_BYTES_MAX && is_end(first) && is_end(last) && text.bytes().all(fits)
}
