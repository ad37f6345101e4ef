//! The matches that can be made now.
//!
//! Never keeps anything between two calls but where it stopped.

use std::cmp::{Ordering, Reverse};
use std::collections::BTreeMap;

use smol_str::SmolStr;

use super::queue::Queue;
use super::rated::Rated;
use super::{Clock, Limits, Match, Plan, Resume, Rules, Ticket};
use crate::Timestamp;

/// Matches of exactly [`Rules::players`] players, or of fewer where the rules and the wait allow it.
///
/// Tickets rank by `enqueued_at`, then by id. Their order in `tickets` does not matter; ids must be unique, and each ticket
/// has a value for each attribute of the rules. A ticket with no player, or with more than a match has, is left out: the
/// caller refuses it when it is filed. `resume`: where the last call stopped, if it did.
///
/// With [`Clock::LongestWaiting`] each ticket is an anchor once, with its own window: whoever else is in its match came later,
/// or could be in no match of its own. With [`Clock::Strictest`] there is a pass for each window, widest first, among those
/// who have waited that long.
pub fn plan<'a>(
    tickets: impl IntoIterator<Item = &'a Ticket>,
    rules: &Rules,
    now: Timestamp,
    limits: Limits,
    resume: Option<&Resume>,
) -> Plan {
    let fits = |ticket: &&Ticket| (1..=usize::from(rules.players)).contains(&ticket.players.len());
    let fitting: Vec<&Ticket> = tickets.into_iter().filter(fits).collect();
    let mut pool = Pool::new(&fitting, rules, now);
    let wake_at = pool.wake_at(rules, now);
    Plan { wake_at, ..pool.run(rules, now, limits, resume) }
}

/// What of a ticket is looked at again and again.
#[derive(Debug, Clone, Copy)]
pub(super) struct Row {
    pub(super) rating: i32,
    /// Its own window now; 0 where none counts.
    pub(super) window: u32,
    pub(super) bucket: u32,
    pub(super) size: u16,
    taken: bool,
}

/// Some tickets in the order of age, and what matches they are tried for.
#[derive(Debug, Clone, Copy)]
struct Pass {
    /// The oldest so many.
    count: u32,
    /// How far apart they may be. `None`: each anchor has its own window.
    width: Option<u32>,
    /// Full matches first; whoever is left and has lost patience is then tried for smaller ones.
    is_smaller: bool,
}

impl Pass {
    /// In the order of this they come.
    const fn place(is_smaller: bool, width: Option<u32>) -> (bool, bool, Reverse<Option<u32>>) {
        (is_smaller, width.is_some(), Reverse(width))
    }
}

/// Those among whom one may be matched.
#[derive(Debug)]
enum Bucket {
    Queue(Queue),
    Rated(Rated),
}

/// The tickets by rank, in their buckets.
pub(super) struct Pool<'a> {
    tickets: Vec<&'a Ticket>,
    rows: Vec<Row>,
    /// Where a ticket is in its bucket, by rank.
    places: Vec<u32>,
    buckets: Vec<Bucket>,
}

impl<'a> Pool<'a> {
    pub(super) fn new(tickets: &[&'a Ticket], rules: &Rules, now: Timestamp) -> Self {
        let tickets = by_age(tickets);
        let mut rows = Vec::with_capacity(tickets.len());
        let mut ranks: Vec<(bool, Vec<u32>)> = Vec::new();
        let mut known: BTreeMap<(Option<&SmolStr>, &[SmolStr]), u32> = BTreeMap::new();
        let mut last: Option<(&Ticket, u32)> = None;
        for (rank, ticket) in (0u32..).zip(&tickets) {
            let same =
                last.filter(|(last, _)| last.keyword == ticket.keyword && last.values == ticket.values);
            let bucket = same.map_or_else(
                || *known.entry((ticket.keyword.as_ref(), &ticket.values)).or_insert(index(ranks.len())),
                |(_, bucket)| bucket,
            );
            last = Some((ticket, bucket));
            let rule = rules.rating.filter(|_| ticket.keyword.is_none());
            if bucket as usize == ranks.len() {
                ranks.push((rule.is_some(), Vec::new()));
            }
            ranks[bucket as usize].1.push(rank);
            rows.push(Row {
                rating: ticket.rating,
                window: rule.map_or(0, |rule| rule.window_after(now.since(ticket.enqueued_at))),
                bucket,
                size: u16::try_from(ticket.players.len()).expect("no larger than a match"),
                taken: false,
            });
        }
        let mut places = vec![0; rows.len()];
        let buckets = ranks.into_iter().map(|(rated, ranks)| {
            if rated {
                return Bucket::Rated(Rated::new(&ranks, &rows, &mut places));
            }
            let mut queue = Queue::default();
            for rank in ranks {
                queue.push(rows[rank as usize].size, rank);
            }
            Bucket::Queue(queue)
        });
        Self { buckets: buckets.collect(), tickets, rows, places }
    }

    /// Tries all anchors, until a limit ends it.
    pub(super) fn run(
        &mut self,
        rules: &Rules,
        now: Timestamp,
        limits: Limits,
        resume: Option<&Resume>,
    ) -> Plan {
        let mut plan = Plan::default();
        let began_at = resume.map_or(now, |resume| resume.began_at);
        for pass in self.passes(rules) {
            let place = Pass::place(pass.is_smaller, pass.width);
            let stopped = resume.map(|resume| Pass::place(resume.is_smaller, resume.width));
            if stopped.is_some_and(|stopped| place < stopped) {
                continue;
            }
            let after = resume.filter(|_| stopped == Some(place)).map(|resume| &resume.after);
            self.enter(pass);
            for rank in 0..pass.count {
                let ticket = self.tickets[rank as usize];
                let tried = |after: &(_, _)| (ticket.enqueued_at, &ticket.id) <= (after.0, &after.1);
                let is_new = resume.is_some() && ticket.enqueued_at > began_at;
                if after.is_some_and(tried) || is_new || !self.is_due(rank, pass, rules) {
                    continue;
                }
                if let Some(members) = self.next_match(rank, pass, rules, now) {
                    let tickets = members.iter().map(|rank| self.tickets[*rank as usize].id.clone());
                    plan.matches.push(Match { tickets: tickets.collect() });
                }
                plan.work += self.take_work(rank);
                if plan.matches.len() >= limits.matches_max || plan.work >= limits.work_max {
                    let after = (ticket.enqueued_at, ticket.id.clone());
                    let (is_smaller, width) = (pass.is_smaller, pass.width);
                    plan.resume = Some(Resume { began_at, is_smaller, width, after });
                    return plan;
                }
            }
        }
        plan
    }

    /// One pass for all that have their own window or none. Where the strictest counts, then one for each window among the
    /// others, widest first. Who waited longer has no narrower one, so that those with at least some window are the oldest.
    fn passes(&self, rules: &Rules) -> Vec<Pass> {
        let pass = |count, width| Pass { count, width, is_smaller: false };
        let mut passes = vec![pass(index(self.rows.len()), None)];
        if rules.rating.is_some_and(|rule| rule.clock == Clock::Strictest) {
            for (count, row) in (1u32..).zip(&self.rows).filter(|(_, row)| self.is_rated(row)) {
                match passes.last_mut() {
                    Some(pass) if pass.width == Some(row.window) => pass.count = count,
                    Some(_) | None => passes.push(pass(count, Some(row.window))),
                }
            }
        }
        if rules.smaller.is_some() {
            let smaller: Vec<Pass> = passes.iter().map(|pass| Pass { is_smaller: true, ..*pass }).collect();
            passes.extend(smaller);
        }
        passes
    }

    fn is_rated(&self, row: &Row) -> bool {
        matches!(self.buckets[row.bucket as usize], Bucket::Rated(_))
    }

    /// Whether this anchor has its turn in this pass.
    fn is_due(&self, rank: u32, pass: Pass, rules: &Rules) -> bool {
        let row = &self.rows[rank as usize];
        let strictest = rules.rating.is_some_and(|rule| rule.clock == Clock::Strictest);
        !row.taken && pass.width.is_some() == (strictest && self.is_rated(row))
    }

    /// Only the tickets of the pass can be found from now on.
    fn enter(&mut self, pass: Pass) {
        if pass.width.is_none() {
            return;
        }
        let rows = &self.rows;
        for bucket in &mut self.buckets {
            match bucket {
                Bucket::Rated(rated) => {
                    rated.refill(|rank| rank < pass.count && !rows[rank as usize].taken);
                }
                Bucket::Queue(_) => {}
            }
        }
    }

    fn is_taken(&self, rank: u32) -> bool {
        self.rows[rank as usize].taken
    }

    /// The match around this anchor, its tickets taken out; oldest first.
    fn next_match(&mut self, anchor: u32, pass: Pass, rules: &Rules, now: Timestamp) -> Option<Vec<u32>> {
        let row = self.rows[anchor as usize];
        let waited = now.since(self.tickets[anchor as usize].enqueued_at);
        let members = rules.sizes(pass.is_smaller, waited).find_map(|players| {
            match &mut self.buckets[row.bucket as usize] {
                Bucket::Queue(queue) => queue.next(row.size, players),
                Bucket::Rated(rated) => {
                    let width = pass.width.unwrap_or(row.window);
                    let place = self.places[anchor as usize];
                    rated.search(anchor, (&row, place), width, players).map(|found| found.members)
                }
            }
        })?;
        for rank in &members {
            let row = &mut self.rows[*rank as usize];
            row.taken = true;
            if let Bucket::Rated(rated) = &mut self.buckets[row.bucket as usize] {
                rated.take(row, self.places[*rank as usize]);
            }
        }
        Some(members)
    }

    /// What the last anchor cost.
    fn take_work(&mut self, anchor: u32) -> u64 {
        match &mut self.buckets[self.rows[anchor as usize].bucket as usize] {
            Bucket::Queue(queue) => queue.take_work(),
            Bucket::Rated(rated) => rated.take_work(),
        }
    }

    /// Whether a match was found for this ticket.
    pub(super) fn is_matched(&self, ticket: &Ticket) -> bool {
        self.rank(ticket).is_some_and(|rank| self.is_taken(rank))
    }

    fn rank(&self, ticket: &Ticket) -> Option<u32> {
        let own = (ticket.enqueued_at, &ticket.id);
        self.tickets.binary_search_by(|other| (other.enqueued_at, &other.id).cmp(&own)).ok().map(index)
    }

    /// How far apart the closest match of exactly `players` with this ticket would be, and who is in it: of those that nobody
    /// has taken, however far away. `None`: not even so, or ratings do not count for it.
    pub(super) fn closest(&mut self, ticket: &Ticket, players: u16) -> Option<(u32, Vec<&'a Ticket>)> {
        let rank = self.rank(ticket)?;
        let row = self.rows[rank as usize];
        match &mut self.buckets[row.bucket as usize] {
            Bucket::Queue(_) => None,
            Bucket::Rated(rated) => {
                let found = rated.search(rank, (&row, self.places[rank as usize]), u32::MAX, players)?;
                let members = found.members.iter().map(|rank| self.tickets[*rank as usize]);
                Some((found.spread, members.collect()))
            }
        }
    }

    fn wake_at(&self, rules: &Rules, now: Timestamp) -> Option<Timestamp> {
        let changes = self
            .tickets
            .iter()
            .filter_map(|ticket| rules.changes_at(ticket.enqueued_at, ticket.keyword.is_none(), now));
        changes.min()
    }
}

/// By moment, then id.
fn by_age<'a>(tickets: &[&'a Ticket]) -> Vec<&'a Ticket> {
    // The moments beside their places: most comparisons need no look at a ticket.
    let mut order: Vec<(Timestamp, u32)> =
        (0u32..).zip(tickets).map(|(place, ticket)| (ticket.enqueued_at, place)).collect();
    order.sort_unstable_by(|(a_at, a), (b_at, b)| match a_at.cmp(b_at) {
        Ordering::Equal => tickets[*a as usize].id.cmp(&tickets[*b as usize].id),
        unequal @ (Ordering::Less | Ordering::Greater) => unequal,
    });
    order.into_iter().map(|(_, place)| tickets[place as usize]).collect()
}

/// Tickets are far fewer than 4 billion.
fn index(count: usize) -> u32 {
    u32::try_from(count).expect("fewer than 4 billion tickets")
}
