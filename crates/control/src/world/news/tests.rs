//! The newsroom under a virtual clock, with a store and a receiver of its own.
#![expect(
    clippy::wildcard_enum_match_arm,
    reason = "an effect of another kind fails the test, whichever it is"
)]

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

const NOBODY: &str = "nobody else";

fn reader(per_minute_max: u32) -> Subscription {
    let events = NewsEvent::CHOICES.into_iter().collect();
    Subscription { name: "ops".to_owned(), events, digest_every: None, per_minute_max }
}

/// A newsroom, what it has stored, and what it wants to be posted.
struct Rig {
    room: Newsroom,
    config: NewsConfig,
    stored: BTreeMap<String, NewsRecord>,
    posts: Vec<(String, String)>,
    now: Timestamp,
}

impl Rig {
    fn new(readers: Vec<Subscription>) -> Self {
        let config = NewsConfig { begun: "a leads".to_owned(), readers };
        let (stored, now) = (BTreeMap::new(), Timestamp::from_unix_ms(1_700_000_000_000));
        let mut rig = Self { room: Newsroom::default(), config, stored, posts: Vec::new(), now };
        rig.restart();
        rig
    }

    /// Another process goes on from what is stored.
    fn restart(&mut self) {
        let records = self.stored.values().cloned().collect();
        let mut out = Vec::new();
        self.room = Newsroom::restore(&self.config, records, self.now, &mut out);
        self.take(out);
    }

    fn take(&mut self, out: Vec<Effect>) {
        for effect in out {
            match effect {
                Effect::Write(write) => match *write {
                    Write::PutNews(record) => drop(self.stored.insert(record.key(), record)),
                    Write::DeleteNews { key } => {
                        assert!(self.stored.remove(&key).is_some(), "{key} deleted twice");
                    }
                    other => panic!("{other:?}"),
                },
                Effect::Post { key, text, .. } => self.posts.push((key, text)),
                other => panic!("{other:?}"),
            }
        }
    }

    fn publish(&mut self, event: NewsEvent, text: &str, common: &str) {
        let draft = Draft {
            text: format!("{text} {common}"),
            common: common.to_owned(),
            subject: text.to_owned(),
            to: None,
        };
        let mut out = Vec::new();
        self.room.publish(self.now, event, draft, &mut out);
        self.take(out);
    }

    fn pass(&mut self, ms: u64) {
        for _ in 0..ms.div_ceil(100) {
            self.now = self.now + Duration::from_millis(100);
            let mut out = Vec::new();
            self.room.poll(self.now, &mut out);
            self.take(out);
        }
    }

    fn posted(&mut self, name: &str, outcome: Posted) -> Option<Notice> {
        let mut out = Vec::new();
        let given_up = self.room.posted(self.now, name, outcome, &mut out);
        self.take(out);
        given_up
    }

    /// The one message that is to be posted; it is taken.
    fn taken(&mut self) -> String {
        assert_eq!(self.posts.len(), 1, "{:?}", self.posts);
        let (_, text) = self.posts.pop().unwrap();
        self.posted("ops", Posted::Taken);
        text
    }

    fn items(&self) -> usize {
        self.stored.keys().filter(|key| key.starts_with("item/")).count()
    }
}

#[test]
fn what_happens_together_is_told_in_one_message_and_what_is_alike_in_one_line() {
    let mut rig = Rig::new(vec![reader(6)]);
    rig.pass(5_000);
    assert!(rig.posts.is_empty(), "nothing has happened");
    for number in 0..12 {
        rig.publish(NewsEvent::Stop, &format!("arena-{number}"), "gameservers of fleet arena told to stop");
        rig.pass(100);
    }
    rig.publish(NewsEvent::Scale, "fleet arena scaled", "");
    rig.publish(NewsEvent::Digest, NOBODY, "");
    assert!(rig.posts.is_empty(), "it waits for more");
    rig.pass(1_000);
    let told = "22:13:25Z 12 gameservers of fleet arena told to stop (arena-0, arena-1, arena-2, …)\n22:13:26Z fleet arena scaled ";
    assert_eq!(rig.taken(), told);
    assert_eq!(rig.items(), 0, "what was told is kept no longer");
    rig.pass(60_000);
    assert!(rig.posts.is_empty(), "nothing is told twice");
}

#[test]
fn no_more_is_posted_in_a_minute_than_wanted_and_nothing_is_left_out() {
    let mut rig = Rig::new(vec![reader(3)]);
    let (mut posts, mut lines) = (Vec::new(), 0);
    for second in 0..300 {
        rig.publish(NewsEvent::Host, &format!("n{second}"), "");
        for _ in 0..10 {
            rig.pass(100);
            if let Some((_, text)) = rig.posts.pop() {
                posts.push(rig.now);
                let more = text.rsplit_once("\nand ").map_or(0, |(_, more)| {
                    more.split_once(' ').and_then(|(count, _)| count.parse().ok()).unwrap_or(0) - 1
                });
                lines += text.lines().count() + more;
                rig.posted("ops", Posted::Taken);
            }
        }
    }
    for four in posts.windows(4) {
        assert!(four[3].since(four[0]) >= MINUTE, "{four:?}");
    }
    assert_eq!((posts.len(), lines + rig.items()), (15, 300));
}

#[test]
fn what_the_receiver_cannot_take_is_sent_again_and_what_it_refuses_is_given_up() {
    let mut rig = Rig::new(vec![reader(60)]);
    rig.publish(NewsEvent::Host, "host a is silent", "");
    rig.pass(2_000);
    let first = rig.posts.pop().unwrap();
    rig.publish(NewsEvent::Host, "host a is back", "");
    let waits = |rig: &mut Rig, outcome, ms: u64| {
        rig.posted("ops", outcome);
        rig.pass(ms - 100);
        assert!(rig.posts.is_empty(), "{outcome:?} is tried again too soon");
        rig.pass(100);
        assert_eq!(rig.posts.pop(), Some(first.clone()), "{outcome:?}");
    };
    waits(&mut rig, Posted::Failed { again_after: None }, 1_000);
    waits(&mut rig, Posted::Failed { again_after: None }, 2_000);
    waits(&mut rig, Posted::Failed { again_after: Some(Duration::from_secs(30)) }, 30_000);
    waits(&mut rig, Posted::Refused { status: 400 }, 8_000);
    assert_eq!(
        rig.posted("ops", Posted::Refused { status: 400 }),
        Some(Notice::NewsRefused { reader: "ops".to_owned(), status: 400 })
    );
    rig.pass(100);
    assert!(rig.taken().ends_with("host a is back "), "what comes after it is told");
}

#[test]
fn a_text_is_never_more_than_text() {
    let mut rig = Rig::new(vec![reader(6)]);
    rig.publish(NewsEvent::Failure, "died: <!channel> & <http://x|y>\n\u{1b}[31mred", "");
    rig.publish(NewsEvent::Failure, &"x".repeat(400), "");
    rig.pass(2_000);
    let told = rig.taken();
    let mut lines = told.lines();
    assert_eq!(lines.next(), Some("22:13:20Z died: &lt;!channel&gt; &amp; &lt;http://x|y&gt;  [31mred "));
    assert_eq!(lines.next().map(|line| line.chars().count()), Some("22:13:20Z ".len() + 301));
    assert_eq!(lines.next(), None);
}

#[test]
fn news_for_a_receiver_that_is_away_are_bounded_and_it_is_told_so() {
    let mut rig = Rig::new(vec![reader(6)]);
    for number in 0..ITEMS_MAX + 50 {
        rig.publish(NewsEvent::Stop, &format!("n{number}"), "told");
    }
    assert_eq!(rig.items(), ITEMS_MAX);
    rig.pass(2_000);
    let told = "what happened before this is left out: there was too much of it\n22:13:20Z 1000 told (n50, n51, n52, …)";
    assert_eq!(rig.taken(), told);
}

#[test]
fn each_is_told_what_it_wants_and_a_new_one_nothing_of_before() {
    let only =
        |name: &str, event| Subscription { name: name.to_owned(), events: [event].into(), ..reader(6) };
    let mut rig = Rig::new(vec![only("hosts", NewsEvent::Host)]);
    rig.publish(NewsEvent::Scale, "scaled", "");
    assert_eq!(rig.items(), 0, "nobody wants it");
    rig.publish(NewsEvent::Host, "lost", "");
    rig.config.readers.push(only("scales", NewsEvent::Scale));
    rig.restart();
    rig.publish(NewsEvent::Scale, "scaled", "");
    rig.pass(2_000);
    let told: Vec<(String, String)> = std::mem::take(&mut rig.posts);
    assert_eq!(
        told,
        [
            ("hosts.1-2".to_owned(), "22:13:20Z lost ".to_owned()),
            ("scales.2-2".to_owned(), "22:13:20Z scaled ".to_owned())
        ]
    );
    rig.posted("hosts", Posted::Taken);
    assert_eq!(rig.items(), 1, "the other one was not told yet");
    rig.posted("scales", Posted::Taken);
    assert_eq!(rig.items(), 0);
    rig.config.readers.clear();
    rig.restart();
    rig.publish(NewsEvent::Host, "lost", "");
    rig.pass(5_000);
    assert!(rig.posts.is_empty() && rig.items() == 0, "nobody is told anything");
}

#[test]
fn what_is_wrong_is_told_once_until_it_is_over_whoever_leads() {
    let mut rig = Rig::new(vec![reader(6)]);
    let raise = |rig: &mut Rig| {
        let mut out = Vec::new();
        let text = "host a is silent".to_owned();
        rig.room.raise(rig.now, NewsEvent::Host, "host/a".to_owned(), text, &mut out);
        rig.take(out);
    };
    raise(&mut rig);
    raise(&mut rig);
    rig.pass(2_000);
    assert_eq!(rig.taken(), "22:13:20Z host a is silent");
    rig.restart();
    raise(&mut rig);
    rig.pass(10_000);
    assert!(rig.posts.is_empty(), "it was told before");
    let mut out = Vec::new();
    let words = |concern: &NewsConcern| format!("back after {}", concern.text);
    rig.room.settle(rig.now, NewsEvent::Host, "host/a", words, &mut out);
    rig.room.settle(rig.now, NewsEvent::Host, "host/a", words, &mut out);
    rig.take(out);
    rig.pass(2_000);
    assert_eq!(rig.taken(), "22:13:32Z back after host a is silent");
    assert_eq!(rig.stored.len(), 1, "only how far the reader has got: {:?}", rig.stored);
}

/// What may happen to a newsroom.
#[derive(Debug, Clone)]
enum Step {
    Happens,
    Passes(u64),
    /// The receiver has it, and the process lives to know it.
    Takes,
    /// The receiver has it, and the process dies before it knows.
    TakesAndDies,
    /// Nobody has it.
    Fails,
    Dies,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => Just(Step::Happens),
        4 => (100_u64..5_000).prop_map(Step::Passes),
        3 => Just(Step::Takes),
        1 => Just(Step::TakesAndDies),
        2 => Just(Step::Fails),
        1 => Just(Step::Dies),
    ]
}

proptest! {
    /// Whatever dies and whatever fails, a receiver that keeps the first of two messages under one key has everything once,
    /// in its order; and without a death between post and note no message comes twice.
    #[test]
    fn everything_is_told_once(steps in prop::collection::vec(step(), 1..120), per_minute_max in 1_u32..20) {
        let mut rig = Rig::new(vec![reader(per_minute_max)]);
        let mut received: BTreeMap<String, String> = BTreeMap::new();
        let (mut happened, mut told, mut doubtful) = (0, Vec::new(), 0);
        let settle = [Step::Passes(60_000), Step::Takes, Step::Passes(60_000), Step::Takes];
        let all = steps.into_iter().chain(settle.into_iter().cycle().take(40));
        let mut twice = 0;
        for step in all {
            match step {
                Step::Happens => {
                    rig.publish(NewsEvent::Host, &format!("n{happened}"), "news");
                    happened += 1;
                }
                Step::Passes(ms) => rig.pass(ms),
                Step::Takes | Step::TakesAndDies | Step::Fails => {
                    let Some((key, text)) = rig.posts.pop() else { continue };
                    prop_assert!(rig.posts.is_empty(), "two at once");
                    if matches!(step, Step::Fails) {
                        rig.posted("ops", Posted::Failed { again_after: None });
                        continue;
                    }
                    match received.get(&key) {
                        Some(known) => { twice += 1; prop_assert_eq!(known, &text) }
                        None => {
                            received.insert(key.clone(), text);
                            let (from, upto) = key.trim_start_matches("ops.").split_once('-').unwrap();
                            told.extend(from.parse::<u64>().unwrap()..=upto.parse::<u64>().unwrap());
                        }
                    }
                    if matches!(step, Step::Takes) {
                        rig.posted("ops", Posted::Taken);
                    } else {
                        doubtful += 1;
                        rig.restart();
                    }
                }
                Step::Dies => { rig.posts.clear(); rig.restart() }
            }
        }
        prop_assert_eq!(told, (1..=happened).collect::<Vec<u64>>());
        prop_assert!(twice <= doubtful);
        prop_assert_eq!(rig.items(), 0);
    }
}
