//! The arena: up to 20 players gather orbs for 75 s, dash into drones and each other, and mind the beam that
//! turns in the middle. Best with four. Never trusts a client with more than a direction.

mod math;
mod messages;
mod sim;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::ops::RangeInclusive;
use std::process::ExitCode;

use greenroom_node::Node;
use greenroom_room::{Ctx, Grace, Player, Reject, Room, RoomKind, Seat, To, Why};
use serde::{Deserialize, Serialize};

pub use messages::{Cause, Ended, Face, In, Init, Out, Phase, Report, Standing};
use sim::{Happening, World};

/// Lengths that a round may have, in seconds.
pub const ROUND_SECS: RangeInclusive<u16> = 5..=3600;

const COUNTDOWN_MS: u64 = 3_000;
const WAITING_MS: u64 = 10_000;
const PODIUM_MS: u64 = 12_000;
const NAME_CHARS_MAX: usize = 16;
/// One for each of 20 seats, far apart for neighbours.
const COLORS: [&str; 20] = [
    "#ff5d73", "#4cc9f0", "#ffd166", "#7ae582", "#c77dff", "#ff9f1c", "#2ec4b6", "#f15bb5", "#a7c957",
    "#8ecae6", "#e76f51", "#90be6d", "#b8c0ff", "#fb6f92", "#00f5d4", "#e9c46a", "#9d8df1", "#f28482",
    "#6fffe9", "#d4d700",
];

/// An arena's state: the world, the phase of the round, and who said what.
#[derive(Serialize, Deserialize)]
pub struct Arena {
    phase: Phase,
    world: World,
    names: BTreeMap<Seat, String>,
    conceded: BTreeSet<Seat>,
    /// Those who left during the round keep their line in the result.
    departed: Vec<Standing>,
    round_ticks: u64,
    phase_ends_at_tick: u64,
}

/// The phase it was set in ends; nothing if that is over already.
#[derive(Serialize, Deserialize)]
pub struct PhaseOver(Phase);

impl Room for Arena {
    type Init = Init;
    type In = In;
    type Out = Out;
    type Timer = PhaseOver;
    const NAME: &'static str = "arena";
    const HZ: u16 = 30;
    const SEATS_MAX: u16 = 20;

    fn create(ctx: &mut Ctx<Self>, init: Init) -> Result<Self, Reject> {
        if !ROUND_SECS.contains(&init.round_secs) {
            return Err(Reject::new(format!("round_secs is 5 to 3600, not {}", init.round_secs)));
        }
        Ok(Self {
            phase: Phase::Waiting,
            world: World::new(ctx.rng()),
            names: BTreeMap::new(),
            conceded: BTreeSet::new(),
            departed: Vec::new(),
            round_ticks: ctx.ticks(u64::from(init.round_secs) * 1000),
            phase_ends_at_tick: 0,
        })
    }

    fn join(&mut self, ctx: &mut Ctx<Self>, seat: Seat, player: &Player) -> Result<(), Reject> {
        if self.phase == Phase::Podium {
            return Err(Reject::new("this round is over"));
        }
        self.names.insert(seat, cut_name(&player.id));
        self.world.enter(seat, ctx.seats());
        self.welcome(ctx, seat);
        ctx.send(To::Except(seat), &Out::Player(self.face(seat)));
        let taken = ctx.taken().count();
        if self.phase == Phase::Waiting && taken == usize::from(ctx.seats()) {
            self.enter_phase(ctx, Phase::Countdown);
        } else if self.phase == Phase::Waiting && taken == 1 {
            ctx.after(ctx.ticks(WAITING_MS), PhaseOver(Phase::Waiting));
        }
        Ok(())
    }

    fn message(&mut self, ctx: &mut Ctx<Self>, seat: Seat, input: In) {
        match input {
            In::Steer { x, y } => self.world.steer(seat, x, y),
            In::Dash if self.phase == Phase::Play => self.world.dash(seat),
            In::Dash => {}
            In::Name(name) => {
                let name = cut_name(&name);
                if !name.is_empty() && self.names.insert(seat, name.clone()) != Some(name) {
                    ctx.send(To::All, &Out::Player(self.face(seat)));
                }
            }
            In::Concede => {
                self.conceded.insert(seat);
                self.end_if_conceded(ctx);
            }
        }
    }

    fn tick(&mut self, ctx: &mut Ctx<Self>) {
        if self.phase == Phase::Play {
            for happening in self.world.step(ctx.rng()) {
                ctx.send(To::All, &told(&happening));
            }
        }
        // Waiting and podium hold still: a state now and then keeps late pages right.
        if matches!(self.phase, Phase::Play | Phase::Countdown) || ctx.tick().is_multiple_of(15) {
            let state = self.state(ctx);
            ctx.send(To::All, &state);
        }
    }

    fn timer(&mut self, ctx: &mut Ctx<Self>, PhaseOver(phase): PhaseOver) {
        if phase != self.phase {
            return;
        }
        match phase {
            // Everybody left while waiting: the next one to come starts the wait anew.
            Phase::Waiting if ctx.taken().next().is_none() => {}
            Phase::Waiting => self.enter_phase(ctx, Phase::Countdown),
            Phase::Countdown => self.enter_phase(ctx, Phase::Play),
            Phase::Play => self.end_round(ctx, Ended::Time),
            Phase::Podium => ctx.close(),
        }
    }

    fn dropped(&mut self, ctx: &mut Ctx<Self>, seat: Seat) -> Grace {
        self.world.steer(seat, 0, 0);
        self.end_if_conceded(ctx);
        Grace::Secs(20)
    }

    fn resumed(&mut self, ctx: &mut Ctx<Self>, seat: Seat) {
        self.welcome(ctx, seat);
    }

    fn left(&mut self, ctx: &mut Ctx<Self>, seat: Seat, _: Why) {
        if self.phase == Phase::Play {
            self.departed.extend(self.standing(ctx, seat));
        }
        self.world.fighters.remove(&seat);
        self.names.remove(&seat);
        self.conceded.remove(&seat);
        ctx.send(To::Except(seat), &Out::Gone { seat });
        if self.phase == Phase::Play && self.world.fighters.is_empty() {
            self.end_round(ctx, Ended::Deserted);
            ctx.close();
        } else {
            self.end_if_conceded(ctx);
        }
    }
}

impl Arena {
    /// Everything a page needs to draw this room from nothing.
    fn welcome(&self, ctx: &mut Ctx<Self>, seat: Seat) {
        let welcome = Out::Welcome {
            seat,
            hz: Self::HZ,
            seats: ctx.seats(),
            map: [sim::WIDTH, sim::HEIGHT, sim::HUB_RADIUS, sim::BEAM_LENGTH],
            pillars: sim::PILLARS.to_vec(),
            players: self.names.keys().map(|seat| self.face(*seat)).collect(),
            orbs: self.world.orbs.iter().map(|(orb, at)| [orb.cast_signed(), at.x, at.y]).collect(),
        };
        ctx.send(To::Only(seat), &welcome);
        let ticks = self.phase_ends_at_tick.saturating_sub(ctx.tick());
        ctx.send(To::Only(seat), &Out::Phase { phase: self.phase, ticks });
        let state = self.state(ctx);
        ctx.send(To::Only(seat), &state);
    }

    fn face(&self, seat: Seat) -> Face {
        let name = self.names.get(&seat).cloned().unwrap_or_default();
        Face { seat, name, color: COLORS[seat.index() % COLORS.len()] }
    }

    fn state(&self, ctx: &Ctx<Self>) -> Out {
        let bits = |seat: Seat, fighter: &sim::Fighter| {
            i32::from(fighter.dash > 0)
                | i32::from(fighter.dazed > 0) << 1
                | i32::from(fighter.safe > 0) << 2
                | i32::from(!ctx.is_connected(seat)) << 3
        };
        let players = self.world.fighters.iter();
        let player = |(seat, fighter): (&Seat, &sim::Fighter)| {
            let score = fighter.score.cast_signed();
            [i32::from(seat.0), fighter.at.x, fighter.at.y, score, bits(*seat, fighter)]
        };
        let drone = |drone: &sim::Drone| [drone.at.x, drone.at.y, i32::from(drone.away == 0)];
        Out::State {
            t: ctx.tick(),
            a: self.world.beam_angle,
            p: players.map(player).collect(),
            d: self.world.drones.iter().map(drone).collect(),
        }
    }

    /// How long each phase lasts; waiting ends when everybody is here, so its own limit is not told.
    fn phase_ticks(&self, ctx: &Ctx<Self>, phase: Phase) -> u64 {
        match phase {
            Phase::Waiting => 0,
            Phase::Countdown => ctx.ticks(COUNTDOWN_MS),
            Phase::Play => self.round_ticks,
            Phase::Podium => ctx.ticks(PODIUM_MS),
        }
    }

    fn enter_phase(&mut self, ctx: &mut Ctx<Self>, phase: Phase) {
        let ticks = self.phase_ticks(ctx, phase);
        self.phase = phase;
        self.phase_ends_at_tick = ctx.tick() + ticks;
        ctx.after(ticks, PhaseOver(phase));
        ctx.send(To::All, &Out::Phase { phase, ticks });
    }

    fn end_if_conceded(&mut self, ctx: &mut Ctx<Self>) {
        let connected = |seat: &Seat| ctx.is_connected(*seat);
        let mut here = self.names.keys().filter(|seat| connected(seat)).peekable();
        let all = here.peek().is_some() && here.all(|seat| self.conceded.contains(seat));
        if all && self.phase == Phase::Play {
            self.end_round(ctx, Ended::Conceded);
        }
    }

    fn end_round(&mut self, ctx: &mut Ctx<Self>, ended: Ended) {
        let standings = self.standings(ctx);
        self.enter_phase(ctx, Phase::Podium);
        ctx.send(To::All, &Out::Podium(standings.clone()));
        ctx.finish(&Report { ended, standings });
    }

    fn standings(&self, ctx: &Ctx<Self>) -> Vec<Standing> {
        let here = self.world.fighters.keys().filter_map(|seat| self.standing(ctx, *seat));
        let mut all: Vec<Standing> = here.chain(self.departed.iter().cloned()).collect();
        all.sort_by(|a, b| b.score.cmp(&a.score).then(a.seat.cmp(&b.seat)).then(a.player.cmp(&b.player)));
        for nth in 0..all.len() {
            let same = nth > 0 && all[nth].score == all[nth - 1].score;
            all[nth].place =
                if same { all[nth - 1].place } else { u32::try_from(nth).unwrap_or(u32::MAX) + 1 };
        }
        all
    }

    fn standing(&self, ctx: &Ctx<Self>, seat: Seat) -> Option<Standing> {
        let (player, score) = (ctx.player(seat)?.id.clone(), self.world.fighters.get(&seat)?.score);
        Some(Standing {
            place: 0,
            seat,
            player,
            name: self.names.get(&seat).cloned().unwrap_or_default(),
            score,
        })
    }
}

/// Runs a server of arenas as the environment tells, until it is told to stop. `ARENA_ROUND_SECONDS` is the length of
/// rounds that nobody asked another length for; a wrong one ends the process with code 64.
#[must_use]
pub fn main() -> ExitCode {
    let mut kind = RoomKind::of::<Arena>();
    if let Ok(text) = std::env::var("ARENA_ROUND_SECONDS") {
        match text.parse::<u16>() {
            Ok(secs) if ROUND_SECS.contains(&secs) => {
                kind = kind.with_default_init(format!("{{\"round_secs\":{secs}}}"));
            }
            Ok(_) | Err(_) => {
                eprintln!("error: ARENA_ROUND_SECONDS={text:?}: a number from 5 to 3600 is wanted");
                return ExitCode::from(64);
            }
        }
    }
    let mut node = Node::from_env();
    node.room_kind(kind);
    node.run()
}

fn told(happening: &Happening) -> Out {
    match *happening {
        Happening::Orb { orb, at } => Out::Orb([orb.cast_signed(), at.x, at.y]),
        Happening::Taken { orb, seat } => Out::Taken { orb, seat },
        Happening::Hit { seat, by, lost } => Out::Hit { seat, by, lost },
        Happening::Pop { seat, drone } => Out::Pop { seat, drone },
    }
}

/// A name that is safe to show: no control characters, not too long.
fn cut_name(name: &str) -> String {
    let visible = name.trim().chars().filter(|c| !c.is_control());
    visible.take(NAME_CHARS_MAX).collect()
}
