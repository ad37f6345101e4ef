//! What a gameserver says of itself over the SDK: that it is ready, that it lives, its labels; and who watches it.
//!
//! Never judges a server whose fleet is probed from outside: what such a one says of its health is taken and changes nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use greenroom_core::Timestamp;
use greenroom_wire::agent::{ProbeWord, ProcessPhase};
use greenroom_wire::sdk::{self, GameServer, Long, ObjectMeta, Port, Spec};

use super::held::{Hold, Roster};
use super::{Effect, Health, Managed, Out, Settings, Stage};
use crate::journal::JournalSaid;
use crate::supervisor::sdk::{SdkCall, SdkRefusal, SdkTold};

/// Most labels of one process.
const LABELS_MAX: usize = 16;
/// Longest name and longest value of a label, in bytes.
const LABEL_BYTES_MAX: usize = 63;
/// Longest value of an annotation, in bytes. They are as many as the labels.
const ANNOTATION_BYTES_MAX: usize = 1024;
/// Most watches of one process.
const WATCHES_MAX: usize = 8;
/// Words that must be missing before a server is unhealthy, as it is told: its fleet's bound is a multiple of that.
const WORDS: u32 = 3;

/// What one process has said of itself.
#[derive(Debug, Default)]
pub(super) struct OwnWord {
    /// It can take players. Kept beside its health, for it may say so before its start is known here.
    pub(super) is_ready: bool,
    /// It was found again by this agent: the stream that its `Health` came on ended with the agent before, and shipped SDKs (that
    /// of Node.js, for one) open no other. So its silence means nothing until such a word is heard once more.
    cut_off: bool,
    /// When it said anything last.
    pub(super) heard_at: Option<Timestamp>,
    pub(super) labels: BTreeMap<String, String>,
    annotations: BTreeMap<String, String>,
    pub(super) hold: Hold,
    /// It has said at least once that it is in use, so that its being free says something of its rooms.
    pub(super) tells_use: bool,
    pub(super) roster: Roster,
    watches: BTreeSet<SdkCall>,
    /// What its watches were shown last.
    shown: Option<Box<GameServer>>,
}

impl OwnWord {
    /// As the agent before this one journalled it.
    pub(super) fn restore(labels: BTreeMap<String, String>, said: JournalSaid) -> Self {
        Self {
            is_ready: said.ready,
            labels,
            annotations: said.annotations,
            hold: said.held.into(),
            tells_use: said.tells_use,
            roster: Roster { ids: said.players, capacity: said.players_max },
            ..Self::default()
        }
    }

    /// What it says only once, so that the next agent must know it.
    pub(super) fn said(&self) -> JournalSaid {
        JournalSaid {
            ready: self.is_ready,
            tells_use: self.tells_use,
            held: self.hold.into(),
            annotations: self.annotations.clone(),
            players: self.roster.ids.clone(),
            players_max: self.roster.capacity,
        }
    }
}

impl Health {
    /// When the next word is due.
    fn own_word_due(&self) -> Option<Timestamp> {
        (self.ready && self.failures == 0).then_some(self.probe_at)
    }

    fn own_word_heard(&mut self, now: Timestamp, silence: Duration) {
        self.probe_at = now + silence;
        self.failures = 0;
        self.failing_since = None;
        if self.ready {
            self.probe_error.clear();
        }
    }
}

impl Managed {
    pub(super) const fn silence(&self) -> Option<Duration> {
        match self.order.probe {
            ProbeWord::Sdk { silence_ms } => Some(Duration::from_millis(silence_ms)),
            ProbeWord::EngineIo | ProbeWord::Tcp | ProbeWord::Http(_) => None,
        }
    }

    /// A process is there. It may have spoken already.
    pub(super) fn begin_own_word(&mut self, health: &mut Health, now: Timestamp) {
        let Some(silence) = self.silence() else { return };
        self.own_word.cut_off = self.order.agones && self.is_adopting();
        if self.own_word.is_ready {
            health.prove(now, self.min_ready());
        }
        "it has not called POST /ready of its SDK".clone_into(&mut health.probe_error);
        health.own_word_heard(now, silence);
    }

    /// It says that it can take players: it is in use no longer.
    pub(in super::super) fn says_ready(&mut self, now: Timestamp, out: &mut Out) {
        self.hold(Hold::Free, now, out);
    }

    /// It says that it serves, whoever it serves.
    pub(super) fn serves(&mut self, now: Timestamp, out: &mut Out) {
        out.dirty |= !std::mem::replace(&mut self.own_word.is_ready, true);
        self.prove_own_word(now, out);
        self.says_alive(now, out);
    }

    /// It says that it lives, as it is to say again and again.
    pub(in super::super) fn beats(&mut self, now: Timestamp, out: &mut Out) {
        self.own_word.cut_off = false;
        self.says_alive(now, out);
    }

    /// When its next word is due.
    pub(super) fn own_word_due(&self, health: &Health) -> Option<Timestamp> {
        health.own_word_due().filter(|_| !self.own_word.cut_off)
    }

    /// Whatever it says, it lives.
    pub(in super::super) fn says_alive(&mut self, now: Timestamp, out: &mut Out) {
        self.own_word.heard_at = Some(now);
        let Some(silence) = self.silence() else { return };
        let Stage::Running { health, .. } = &mut self.stage else { return };
        let before = health.phase();
        health.own_word_heard(now, silence);
        out.changed |= before != health.phase();
    }

    /// Notices its silence.
    pub(super) fn mind_own_word(&mut self, now: Timestamp, out: &mut Out) {
        let Some(silence) = self.silence().filter(|_| !self.own_word.cut_off) else { return };
        let Stage::Running { health, .. } = &mut self.stage else { return };
        if health.own_word_due().is_some_and(|at| at <= now) {
            tracing::warn!(server = %self.order.server, silence_ms = silence.as_millis(), "gameserver says nothing of its health");
            // No probe asks again, so this one counts for all.
            health.failures = u32::MAX;
            health.failing_since = Some(now);
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

    /// Sets an annotation, or takes it away with an empty value. Only its own record shows it.
    pub(in super::super) fn set_annotation(
        &mut self,
        name: String,
        value: String,
        out: &mut Out,
    ) -> Result<(), SdkRefusal> {
        if !is_label(&name) {
            return Err(SdkRefusal::LabelName { name });
        }
        if value.len() > ANNOTATION_BYTES_MAX {
            return Err(SdkRefusal::AnnotationValue { name, bytes_max: ANNOTATION_BYTES_MAX });
        }
        let annotations = &mut self.own_word.annotations;
        out.dirty |= if value.is_empty() {
            annotations.remove(&name).is_some()
        } else if annotations.len() >= LABELS_MAX && !annotations.contains_key(&name) {
            return Err(SdkRefusal::Labels { max: LABELS_MAX });
        } else {
            annotations.insert(name, value.clone()) != Some(value)
        };
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
        let own = |(name, value): (&String, &String)| (format!("agones.dev/sdk-{name}"), value.clone());
        let mut labels: BTreeMap<String, String> = self.own_word.labels.iter().map(own).collect();
        let mut annotations: BTreeMap<String, String> = self.own_word.annotations.iter().map(own).collect();
        annotations.insert("greenroom/revision".to_owned(), self.order.revision.to_string());
        labels.insert("agones.dev/fleet".to_owned(), self.order.fleet.to_string());
        let silence_s = self.silence().unwrap_or_default().as_secs();
        let period_seconds = u32::try_from(silence_s).unwrap_or(u32::MAX) / WORDS;
        let is_used = self.connections() > 0 || !self.status.rooms.is_empty();
        let state = match self.phase() {
            ProcessPhase::Starting | ProcessPhase::Restarting => "Scheduled",
            ProcessPhase::Ready if is_used => "Allocated",
            ProcessPhase::Ready => self.own_word.hold.state(),
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
                annotations,
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
                players: self.players_told(),
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
