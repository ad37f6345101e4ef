//! Hurting processes while players play: kill, freeze, cut the store off.
//!
//! Never touches a process of another machine, nor one that neither the control plane, nor `dev` of this run, nor the
//! store itself names. What was frozen is thawed, however the run ends.

mod store;

use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use greenroom_client::ControlClient;
use greenroom_core::FleetName;
use greenroom_load::Scenario;
use greenroom_load::draws::Draws;
use greenroom_load::flow::Step;
use greenroom_load::report::Mark;
use rustix::process::{Pid, Signal, kill_process};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until, timeout};

use self::store::Store;
use super::target::Target;
use crate::ask;
use crate::failure::Failure;

/// How long control may take to tell who runs. While it is frozen itself, what it told at the start is taken.
const TOLD_WITHIN: Duration = Duration::from_secs(1);
/// Freezes that are drawn last this long to twice as long.
const FREEZE: Duration = Duration::from_secs(2);

/// What is done to one process at one moment of a run: `kill:chat@5s`, `freeze:control@8s+3s`, `cut:store@4s+2s`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Disruption {
    act: Act,
    whom: Whom,
    at: Duration,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Act {
    Kill,
    Freeze(Duration),
    /// Nobody keeps a connection to the store for so long.
    Cut(Duration),
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Whom {
    Control,
    Agent,
    /// The Redis that `--store` names.
    Store,
    /// One of this fleet's servers, drawn among those on which somebody plays.
    Fleet(FleetName),
}

impl FromStr for Disruption {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let wrong = || {
            format!(
                "{text:?} is nothing to be done; write kill:WHOM@WHEN or freeze:WHOM@WHEN+HOW_LONG, such as kill:chat@5s or \
                 freeze:control@8s+3s; WHOM is a fleet, control, agent or store; cut:store@WHEN+HOW_LONG cuts it off"
            )
        };
        let (act, rest) = text.split_once(':').ok_or_else(wrong)?;
        let (whom, when) = rest.split_once('@').ok_or_else(wrong)?;
        let span = |text: &str| humantime::parse_duration(text).map_err(|_| wrong());
        let (at, act) = match (act, when.split_once('+')) {
            ("kill", None) => (span(when)?, Act::Kill),
            ("freeze", Some((at, lasting))) => (span(at)?, Act::Freeze(span(lasting)?)),
            ("cut", Some((at, lasting))) if whom == "store" => (span(at)?, Act::Cut(span(lasting)?)),
            (_, _) => return Err(wrong()),
        };
        let whom = match whom {
            "control" => Whom::Control,
            "agent" => Whom::Agent,
            "store" => Whom::Store,
            fleet => Whom::Fleet(fleet.parse().map_err(|_| wrong())?),
        };
        Ok(Self { act, whom, at })
    }
}

impl std::fmt::Display for Disruption {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { act, whom, at } = self;
        let whom: &dyn std::fmt::Display = match whom {
            Whom::Control => &"control",
            Whom::Agent => &"agent",
            Whom::Store => &"store",
            Whom::Fleet(fleet) => fleet,
        };
        let at = humantime::format_duration(*at);
        let (word, lasting) = match act {
            Act::Kill => return write!(f, "kill:{whom}@{at}"),
            Act::Freeze(lasting) => ("freeze", lasting),
            Act::Cut(lasting) => ("cut", lasting),
        };
        write!(f, "{word}:{whom}@{at}+{}", humantime::format_duration(*lasting))
    }
}

/// Everything that is done in a run, and to which store.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Plan<'a> {
    pub(super) disruptions: &'a [Disruption],
    pub(super) store: Option<&'a str>,
}

/// `count` disruptions within a time, by the seed: of the fleets that the scenario plays on, control and the agent.
pub(super) fn drawn(scenario: &Scenario, count: u32, within: Duration) -> Vec<Disruption> {
    let mut whom = vec![Whom::Control, Whom::Agent];
    for step in &scenario.flow.steps {
        if let Step::Find { fleet, .. } | Step::Join { fleet, .. } = step {
            whom.push(Whom::Fleet(fleet.clone()));
        }
    }
    let mut draws = Draws::new(scenario.seed, 3 << 40);
    let mut plan: Vec<_> = (0..count)
        .map(|_| {
            let act = if draws.below(2) == 0 { Act::Kill } else { Act::Freeze(FREEZE + draws.span(FREEZE)) };
            let nth = usize::try_from(draws.below(whom.len() as u64)).expect("a small number");
            Disruption { act, whom: whom[nth].clone(), at: Duration::from_secs(1) + draws.span(within) }
        })
        .collect();
    plan.sort_by_key(|disruption| disruption.at);
    plan
}

/// The disruptions of a run that is under way.
pub(super) struct Chaos {
    tasks: JoinSet<Result<Mark, String>>,
    marks: Vec<Mark>,
    undone: Vec<String>,
}

impl Chaos {
    /// Begins. Every moment counts from `started`.
    pub(super) async fn start(
        plan: Plan<'_>,
        target: &Target,
        seed: u64,
        started: Instant,
    ) -> Result<Self, Failure> {
        let mut tasks = JoinSet::new();
        if plan.disruptions.iter().any(|disruption| disruption.whom != Whom::Store) {
            check(target)?;
        }
        let store = store_of(plan).await?;
        for (nth, disruption) in (0..).zip(plan.disruptions) {
            let hand = Hand {
                control: ask::client(&target.global)?,
                data_dir: target.data_dir.clone(),
                store: store.clone(),
                draw: Draws::new(seed, (3 << 40) | (1 + nth)).bits(),
                known: Vec::new(),
            };
            tasks.spawn(hand.carry_out(disruption.clone(), started));
        }
        Ok(Self { tasks, marks: Vec::new(), undone: Vec::new() })
    }

    /// Waits until one more is done; for ever when none is left.
    pub(super) async fn next(&mut self) {
        match self.tasks.join_next().await {
            Some(Ok(Ok(mark))) => {
                eprintln!("{:6} s  {}", mark.second, mark.text);
                self.marks.push(mark);
            }
            Some(Ok(Err(undone))) => {
                eprintln!("{undone}");
                self.undone.push(undone);
            }
            Some(Err(error)) => self.undone.push(error.to_string()),
            None => std::future::pending().await,
        }
    }

    /// Ends: nothing more is done, what is frozen thaws. Gives what was done, or what was not though it was planned.
    pub(super) fn finish(mut self) -> Result<Vec<Mark>, Failure> {
        if !self.tasks.is_empty() {
            self.undone.push(format!("{} were planned after the end of the run", self.tasks.len()));
        }
        if self.undone.is_empty() {
            self.marks.sort_by_key(|mark| mark.second);
            return Ok(self.marks);
        }
        let what = format!("not everything planned was done: {}", self.undone.join("; "));
        Err(Failure::new(what, "A run that hurt nobody proves nothing: mend the plan."))
    }
}

fn check(target: &Target) -> Result<(), Failure> {
    let here = ["http://127.", "http://localhost", "http://[::1]"];
    if !target.has_fleets || !here.iter().any(|start| target.global.server.starts_with(start)) {
        let what = "only processes of a control plane on this machine can be hurt";
        return Err(Failure::usage(what, "Use --target dev, or --server with an address of this machine."));
    }
    Ok(())
}

/// The store, when something of the plan hurts it: reached before the players come, so that a wrong address is told at once.
async fn store_of(plan: Plan<'_>) -> Result<Option<Store>, Failure> {
    if !plan.disruptions.iter().any(|disruption| disruption.whom == Whom::Store) {
        return Ok(None);
    }
    let Some(url) = plan.store else {
        let next = "Name the Redis that the servers share: --store redis://127.0.0.1:6379";
        return Err(Failure::usage("the plan hurts the store, and which one is not told", next));
    };
    Store::reach(url).await.map(Some)
}

/// Does one disruption.
struct Hand {
    control: ControlClient,
    data_dir: PathBuf,
    store: Option<Store>,
    draw: u64,
    known: Vec<u32>,
}

impl Hand {
    async fn carry_out(mut self, disruption: Disruption, started: Instant) -> Result<Mark, String> {
        if let Whom::Fleet(fleet) = &disruption.whom {
            self.known = pids(&self.control, fleet).await.unwrap_or_default();
        }
        sleep_until(started + disruption.at).await;
        let second = u32::try_from(started.elapsed().as_secs()).unwrap_or(u32::MAX);
        let done = self.act(&disruption).await;
        done.map_err(|why| format!("{disruption} was not done: {why}"))?;
        Ok(Mark { second, text: disruption.to_string() })
    }

    async fn act(&self, disruption: &Disruption) -> Result<(), String> {
        if let (Act::Cut(lasting), Some(store)) = (disruption.act, &self.store) {
            return store.cut(lasting).await;
        }
        let pid = self.find(&disruption.whom).await?;
        let signal = |signal| kill_process(pid, signal).map_err(|error| error.to_string());
        match disruption.act {
            Act::Kill => signal(Signal::KILL),
            Act::Freeze(lasting) => {
                signal(Signal::STOP)?;
                let _thaws = Frozen(pid);
                sleep(lasting).await;
                Ok(())
            }
            Act::Cut(_) => Err("only the store can be cut off".to_owned()),
        }
    }

    async fn find(&self, whom: &Whom) -> Result<Pid, String> {
        let pid = match whom {
            Whom::Control => part(&self.data_dir, "control")?,
            Whom::Agent => part(&self.data_dir, "agent")?,
            Whom::Store => self.store.as_ref().ok_or("no store is named")?.pid()?,
            Whom::Fleet(fleet) => {
                let now = pids(&self.control, fleet).await;
                let pids = now.as_deref().unwrap_or(&self.known);
                let places = u64::try_from(pids.len()).unwrap_or(u64::MAX).max(1);
                let nth = usize::try_from(self.draw % places).unwrap_or_default();
                *pids.get(nth).ok_or_else(|| format!("fleet {fleet} has no process here"))?
            }
        };
        i32::try_from(pid).ok().and_then(Pid::from_raw).ok_or_else(|| format!("{pid} is no process"))
    }
}

/// The processes of a fleet on which somebody plays, else all of it; `None` when control does not tell in time.
async fn pids(control: &ControlClient, fleet: &FleetName) -> Option<Vec<u32>> {
    let list = timeout(TOLD_WITHIN, control.gameservers(Some(fleet))).await.ok()?.ok()?.gameservers;
    let busy: Vec<_> =
        list.iter().filter(|server| server.connections > 0).filter_map(|server| server.pid).collect();
    Some(if busy.is_empty() { list.iter().filter_map(|server| server.pid).collect() } else { busy })
}

/// A process that `dev` has written down.
fn part(data_dir: &Path, name: &str) -> Result<u32, String> {
    let file = data_dir.join("dev.json");
    let read = || -> Option<u32> {
        let text = std::fs::read_to_string(&file).ok()?;
        let record: serde_json::Value = serde_json::from_str(&text).ok()?;
        record[name]["pid"].as_u64()?.try_into().ok()
    };
    read().ok_or_else(|| {
        format!("{} names no {name}; --data-dir says where `greenroom dev` keeps its files", file.display())
    })
}

/// Thaws its process when it goes, also when the run is stopped.
struct Frozen(Pid);

impl Drop for Frozen {
    fn drop(&mut self) {
        let _gone_meanwhile = kill_process(self.0, Signal::CONT);
    }
}

#[cfg(test)]
mod tests {
    use greenroom_load::SwarmConfig;

    use super::*;

    #[test]
    fn disruptions_are_read_as_they_are_written() {
        for text in ["kill:chat@5s", "freeze:control@8s+3s", "kill:agent@1m", "cut:store@4s+2s"] {
            assert_eq!(text.parse::<Disruption>().unwrap().to_string(), text);
        }
        let wrong = ["", "kill:chat", "kill:chat@5s+2s", "freeze:chat@5s", "melt:chat@5s", "kill:Chat!@5s"];
        for text in wrong.into_iter().chain(["cut:chat@5s+1s", "cut:store@5s"]) {
            let error = text.parse::<Disruption>().unwrap_err();
            assert!(error.contains("is nothing to be done"), "{error}");
        }
    }

    #[test]
    fn the_seed_settles_what_is_done() {
        let plan = |seed| {
            let scenario = SwarmConfig { seed, ..SwarmConfig::default() }.scenario();
            drawn(&scenario, 6, Duration::from_secs(20))
        };
        assert_eq!(plan(1), plan(1));
        assert_ne!(plan(1), plan(2));
        assert!(plan(1).is_sorted_by_key(|disruption| disruption.at));
    }
}
