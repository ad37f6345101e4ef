//! What people outside are told: what is to be told, what was told, and when the next message goes to whom.
//!
//! Never posts: an effect says what to post and an event how that went. What is to be told is stored with what it tells of, and
//! so is how far each reader has got; so whoever leads next goes on from there and tells nothing twice, unless a process dies
//! between a post and the note that it was taken: then it sends that same message again under the same key.

mod compose;
mod digest;
mod fleets;
mod words;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use greenroom_core::{FleetName, Timestamp};
use greenroom_wire::record::{NewsConcern, NewsEntry, NewsEvent, NewsItem, NewsReader, NewsRecord};

use super::{Effect, Notice, World, Write};

/// Items kept for readers that were not told yet; the oldest go first, and the message says so.
const ITEMS_MAX: usize = 1_000;
/// How long news wait for more of them.
const GATHER: Duration = Duration::from_secs(2);
/// In which time posts are counted.
const MINUTE: Duration = Duration::from_mins(1);
/// Pause after the first failed post; doubled after each further one.
const PAUSE_MIN: Duration = Duration::from_secs(1);
/// Longest pause.
const PAUSE_MAX: Duration = Duration::from_mins(1);
/// Longest pause that a receiver may ask for.
const PAUSE_ASKED_MAX: Duration = Duration::from_mins(10);
/// A message that its receiver refuses so often is given up.
const REFUSALS_MAX: u32 = 5;

/// Who is told, and by whom.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NewsConfig {
    /// What is told when this control plane begins to decide: `replica a leads`.
    pub begun: String,
    /// Who is told. Default nobody: then nothing of it is kept.
    pub readers: Vec<Subscription>,
}

/// What one reader wants to be told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subscription {
    /// Its name, unique. How far it has got is kept under it.
    pub name: String,
    /// Which sorts of news.
    pub events: BTreeSet<NewsEvent>,
    /// Time between two digests. Default none.
    pub digest_every: Option<Duration>,
    /// Most posts in a minute; what comes meanwhile goes into the next one.
    pub per_minute_max: u32,
}

/// How a post went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Posted {
    /// The receiver has it.
    Taken,
    /// The receiver does not want this message.
    Refused {
        /// HTTP status.
        status: u16,
    },
    /// It may work later.
    Failed {
        /// No sooner than after this time, if the receiver said so.
        again_after: Option<Duration>,
    },
}

/// One thing to be told, not numbered yet.
#[derive(Debug, Default)]
pub(super) struct Draft {
    pub(super) text: String,
    pub(super) common: String,
    pub(super) subject: String,
    pub(super) to: Option<String>,
}

/// All of it. The default tells nobody anything.
#[derive(Debug, Default)]
pub(super) struct Newsroom {
    items: BTreeMap<u64, NewsItem>,
    /// The number given out last.
    last: u64,
    /// The last one that had to go untold.
    dropped: u64,
    readers: Vec<Reader>,
    concerns: BTreeMap<String, NewsConcern>,
    /// Fleets that are otherwise than was told, and since when.
    turning: BTreeMap<FleetName, Timestamp>,
}

#[derive(Debug)]
struct Reader {
    wants: Subscription,
    mark: NewsReader,
    errand: Errand,
    failures: u32,
    /// Posts of the last minute.
    posts: VecDeque<Timestamp>,
    /// Calls that found no place, by fleet, when the last digest was made.
    misses: BTreeMap<FleetName, u64>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Errand {
    Nothing,
    UnderWay,
    /// The last post failed.
    Again(Timestamp),
}

impl World {
    /// Takes up what was told, and tells that this process decides now.
    pub(super) fn restore_news(&mut self, records: Vec<NewsRecord>) {
        self.news = Newsroom::restore(&self.config.news, records, self.now, &mut self.out);
        let text = format!("{} (term {})", self.config.news.begun, self.config.term);
        self.publish(NewsEvent::Leader, Draft { text, ..Draft::default() });
    }

    pub(super) fn news_posted(&mut self, reader: &str, outcome: Posted) {
        if let Some(given_up) = self.news.posted(self.now, reader, outcome, &mut self.out) {
            self.note(given_up);
        }
    }
}

impl Newsroom {
    /// Takes up what was stored. A reader of whom nothing is known is told what happens from now on.
    pub(super) fn restore(
        config: &NewsConfig,
        records: Vec<NewsRecord>,
        now: Timestamp,
        out: &mut Vec<Effect>,
    ) -> Self {
        let mut room = Self::default();
        if config.readers.is_empty() {
            return room;
        }
        let mut marks = BTreeMap::new();
        for record in records {
            match record.entry {
                NewsEntry::Item(item) => drop(room.items.insert(item.number, item)),
                NewsEntry::Reader(mark) => drop(marks.insert(mark.name.clone(), mark)),
                NewsEntry::Concern(concern) => drop(room.concerns.insert(concern.about.clone(), concern)),
            }
        }
        let told = marks.values().map(|mark| mark.told.max(mark.posting.unwrap_or(0))).max().unwrap_or(0);
        room.last = room.items.last_key_value().map_or(0, |(number, _)| *number).max(told);
        for wants in config.readers.clone() {
            let mark = marks.remove(&wants.name).unwrap_or_else(|| {
                let at_ms = now.unix_ms();
                let mark = NewsReader {
                    name: wants.name.clone(),
                    told: room.last,
                    posting: None,
                    digest_at_ms: at_ms,
                };
                put(NewsEntry::Reader(mark.clone()), out);
                mark
            });
            room.readers.push(Reader {
                wants,
                mark,
                errand: Errand::Nothing,
                failures: 0,
                posts: VecDeque::new(),
                misses: BTreeMap::new(),
            });
        }
        room.forget_told(out);
        room
    }

    /// Whether anybody is told anything.
    pub(super) fn has_readers(&self) -> bool {
        !self.readers.is_empty()
    }

    /// Keeps it for those who want it.
    pub(super) fn publish(&mut self, now: Timestamp, event: NewsEvent, draft: Draft, out: &mut Vec<Effect>) {
        let Draft { text, common, subject, to } = draft;
        let item = NewsItem { number: self.last + 1, at_ms: now.unix_ms(), event, text, common, subject, to };
        if !self.readers.iter().any(|reader| reader.wants(&item)) {
            return;
        }
        self.last = item.number;
        put(NewsEntry::Item(item.clone()), out);
        self.items.insert(item.number, item);
        while self.items.len() > ITEMS_MAX {
            if let Some((number, _)) = self.items.pop_first() {
                self.dropped = number;
                delete(NewsRecord::item_key(number), out);
            }
        }
    }

    /// Tells what is wrong, once until it is over.
    pub(super) fn raise(
        &mut self,
        now: Timestamp,
        event: NewsEvent,
        about: String,
        text: String,
        out: &mut Vec<Effect>,
    ) {
        if !self.has_readers() || self.concerns.contains_key(&about) {
            return;
        }
        let concern = NewsConcern { about: about.clone(), since_ms: now.unix_ms(), text: text.clone() };
        put(NewsEntry::Concern(concern.clone()), out);
        self.concerns.insert(about, concern);
        self.publish(now, event, Draft { text, ..Draft::default() }, out);
    }

    /// Whether it was told to be wrong and is not over.
    pub(super) fn is_open(&self, about: &str) -> bool {
        self.concerns.contains_key(about)
    }

    /// It is over, which `words` says of when it began; nothing is told where it was never told.
    pub(super) fn settle(
        &mut self,
        now: Timestamp,
        event: NewsEvent,
        about: &str,
        words: impl FnOnce(&NewsConcern) -> String,
        out: &mut Vec<Effect>,
    ) {
        let Some(concern) = self.concerns.remove(about) else { return };
        delete(NewsRecord::concern_key(about), out);
        self.publish(now, event, Draft { text: words(&concern), ..Draft::default() }, out);
    }

    /// It is over and something else tells so.
    pub(super) fn forget_concern(&mut self, about: &str, out: &mut Vec<Effect>) {
        if self.concerns.remove(about).is_some() {
            delete(NewsRecord::concern_key(about), out);
        }
    }

    /// Sends each reader what is due.
    pub(super) fn poll(&mut self, now: Timestamp, out: &mut Vec<Effect>) {
        let Self { items, last, dropped, readers, .. } = self;
        let mut passed = false;
        for reader in readers {
            let Some(upto) = reader.due(items, *last, now) else { continue };
            let told = reader.mark.told;
            let wanted = items.range(told + 1..=upto).map(|(_, item)| item).filter(|item| reader.wants(item));
            let wanted: Vec<&NewsItem> = wanted.collect();
            if wanted.is_empty() {
                // What a message that may have been sent told of had to make room meanwhile.
                reader.mark = NewsReader { told: upto, posting: None, ..reader.mark.clone() };
                put(NewsEntry::Reader(reader.mark.clone()), out);
                passed = true;
                continue;
            }
            if reader.mark.posting != Some(upto) {
                reader.mark.posting = Some(upto);
                put(NewsEntry::Reader(reader.mark.clone()), out);
            }
            reader.errand = Errand::UnderWay;
            reader.posts.push_back(now);
            out.push(Effect::Post {
                reader: reader.wants.name.clone(),
                key: format!("{}.{}-{upto}", reader.wants.name, told + 1),
                text: compose::message(&wanted, told < *dropped),
            });
        }
        if passed {
            self.forget_told(out);
        }
    }

    /// A post of the reader's last message came to its end. What is given up is told to the log.
    pub(super) fn posted(
        &mut self,
        now: Timestamp,
        name: &str,
        outcome: Posted,
        out: &mut Vec<Effect>,
    ) -> Option<Notice> {
        let reader = self.readers.iter_mut().find(|reader| reader.wants.name == name)?;
        let upto = reader.mark.posting?;
        let mut given_up = None;
        match outcome {
            Posted::Taken => {}
            Posted::Refused { status } if reader.failures + 1 >= REFUSALS_MAX => {
                given_up = Some(Notice::NewsRefused { reader: name.to_owned(), status });
            }
            Posted::Refused { .. } => return reader.fail(now, None),
            Posted::Failed { again_after } => return reader.fail(now, again_after),
        }
        reader.failures = 0;
        reader.errand = Errand::Nothing;
        reader.mark = NewsReader { told: upto, posting: None, ..reader.mark.clone() };
        put(NewsEntry::Reader(reader.mark.clone()), out);
        self.forget_told(out);
        given_up
    }

    /// Lets go of what everybody was told.
    fn forget_told(&mut self, out: &mut Vec<Effect>) {
        let readers = &self.readers;
        let is_awaited = |item: &NewsItem| {
            readers.iter().any(|reader| reader.mark.told < item.number && reader.wants(item))
        };
        for (number, _) in self.items.extract_if(.., |_, item| !is_awaited(item)) {
            delete(NewsRecord::item_key(number), out);
        }
    }
}

impl Reader {
    fn wants(&self, item: &NewsItem) -> bool {
        match &item.to {
            Some(to) => *to == self.wants.name,
            None => item.event == NewsEvent::Unknown || self.wants.events.contains(&item.event),
        }
    }

    /// Up to which item a message is to be sent now.
    fn due(&mut self, items: &BTreeMap<u64, NewsItem>, last: u64, now: Timestamp) -> Option<u64> {
        while self.posts.front().is_some_and(|at| now.since(*at) >= MINUTE) {
            self.posts.pop_front();
        }
        let may_post = match self.errand {
            Errand::Nothing => true,
            Errand::UnderWay => false,
            Errand::Again(at) => now >= at,
        };
        if !may_post || self.posts.len() >= self.wants.per_minute_max as usize {
            return None;
        }
        if let Some(upto) = self.mark.posting {
            return Some(upto);
        }
        let first = items.range(self.mark.told + 1..).map(|(_, item)| item).find(|item| self.wants(item))?;
        (now.since(Timestamp::from_unix_ms(first.at_ms)) >= GATHER).then_some(last)
    }

    fn fail(&mut self, now: Timestamp, again_after: Option<Duration>) -> Option<Notice> {
        let pause = PAUSE_MIN.saturating_mul(1 << self.failures.min(10)).min(PAUSE_MAX);
        self.failures = self.failures.saturating_add(1);
        self.errand =
            Errand::Again(now + again_after.map_or(pause, |asked| asked.clamp(pause, PAUSE_ASKED_MAX)));
        None
    }
}

fn put(entry: NewsEntry, out: &mut Vec<Effect>) {
    out.push(Effect::Write(Box::new(Write::PutNews(NewsRecord::new(entry)))));
}

fn delete(key: String, out: &mut Vec<Effect>) {
    out.push(Effect::Write(Box::new(Write::DeleteNews { key })));
}

#[cfg(test)]
mod tests;
