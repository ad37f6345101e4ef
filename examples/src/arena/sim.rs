//! The arena's world and one step of it: fighters, drones, orbs, and the beam that turns in the middle.
//! Never sends anything: what happened is a list that the room turns into events.

use std::collections::BTreeMap;

use greenroom_room::{Rng, Seat};
use serde::{Deserialize, Serialize};

use super::math::{ONE, PX, TURN, Vector, ray};
use super::messages::Cause;

pub(crate) const WIDTH: i32 = 1280;
pub(crate) const HEIGHT: i32 = 800;
pub(crate) const HUB_RADIUS: i32 = 46;
pub(crate) const BEAM_LENGTH: i32 = 470;
pub(crate) const PILLARS: [[i32; 3]; 4] = [[320, 220, 38], [960, 220, 38], [320, 580, 38], [960, 580, 38]];
const CENTRE: Vector = Vector::px(WIDTH / 2, HEIGHT / 2);

const FIGHTER_RADIUS: i32 = 17 * PX;
const DRONE_RADIUS: i32 = 15 * PX;
const ORB_RADIUS: i32 = 9 * PX;
const BEAM_HALF_WIDTH: i32 = 5 * PX;
const DRONE_SIGHT: i32 = 250 * PX;

// Per tick, at 30 ticks a second.
const RUN: i32 = 9 * PX;
const DASH: i32 = 26 * PX;
const DRONE_WANDER: i32 = 3 * PX;
const DRONE_CHASE: i32 = 6 * PX;
const DASH_TICKS: u16 = 6;
const DASH_PAUSE_TICKS: u16 = 34;
const DAZED_TICKS: u16 = 24;
const SAFE_TICKS: u16 = 60;
const DRONE_BACK_TICKS: u16 = 120;
const ORB_EVERY_TICKS: u64 = 12;

const DRONES: usize = 4;
const DRONE_BOUNTY: u32 = 3;
const SPIN_START: i32 = 18;
const SPIN_MAX: i32 = 44;

/// A player's body.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Fighter {
    pub(crate) at: Vector,
    pub(crate) steer: Vector,
    /// Where a dash would go; never zero.
    pub(crate) facing: Vector,
    pub(crate) dash: u16,
    pub(crate) dash_pause: u16,
    pub(crate) dazed: u16,
    pub(crate) safe: u16,
    pub(crate) score: u32,
}

/// A drone: drifts about, hunts whoever comes near, and is gone for a while when popped.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Drone {
    pub(crate) at: Vector,
    goal: Vector,
    pub(crate) away: u16,
}

/// Everything that moves.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct World {
    pub(crate) fighters: BTreeMap<Seat, Fighter>,
    pub(crate) drones: Vec<Drone>,
    pub(crate) orbs: BTreeMap<u32, Vector>,
    pub(crate) beam_angle: i32,
    /// Angle per tick; its sign is the sense of turning.
    pub(crate) beam_spin: i32,
    next_orb: u32,
    steps: u64,
}

/// What a step did that players should hear of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Happening {
    Orb { orb: u32, at: Vector },
    Taken { orb: u32, seat: Seat },
    Hit { seat: Seat, by: Cause, lost: u32 },
    Pop { seat: Seat, drone: usize },
}

impl World {
    pub(crate) fn new(rng: &mut Rng) -> Self {
        let mut world = Self {
            fighters: BTreeMap::new(),
            drones: Vec::new(),
            orbs: BTreeMap::new(),
            beam_angle: rng.between(0, TURN - 1),
            beam_spin: SPIN_START,
            next_orb: 0,
            steps: 0,
        };
        for _ in 0..DRONES {
            let at = somewhere(rng);
            world.drones.push(Drone { at, goal: at, away: 0 });
        }
        for _ in 0..8 {
            world.place_orb(somewhere(rng));
        }
        world
    }

    /// Puts a body for `seat` on the rim, evenly spread over `seats`.
    pub(crate) fn enter(&mut self, seat: Seat, seats: u16) {
        let way = ray(TURN * i32::from(seat.0) / i32::from(seats.max(1)) + TURN / 8);
        let at =
            CENTRE + Vector::new(way.x * (WIDTH / 2 - 90) / ONE * PX, way.y * (HEIGHT / 2 - 70) / ONE * PX);
        self.fighters.insert(
            seat,
            Fighter {
                at,
                steer: Vector::default(),
                facing: -way,
                dash: 0,
                dash_pause: 0,
                dazed: 0,
                safe: SAFE_TICKS,
                score: 0,
            },
        );
    }

    /// The player's wish, from -127 to 127 each way.
    pub(crate) fn steer(&mut self, seat: Seat, x: i8, y: i8) {
        if let Some(fighter) = self.fighters.get_mut(&seat) {
            fighter.steer = Vector::new(i32::from(x), i32::from(y));
            if fighter.steer != Vector::default() {
                fighter.facing = fighter.steer;
            }
        }
    }

    /// Starts a dash, unless one just was or the fighter is dazed.
    pub(crate) fn dash(&mut self, seat: Seat) {
        if let Some(fighter) = self.fighters.get_mut(&seat)
            && fighter.dash_pause == 0
            && fighter.dazed == 0
        {
            fighter.dash = DASH_TICKS;
            fighter.dash_pause = DASH_PAUSE_TICKS;
        }
    }

    /// One tick of play. What happened is told in order.
    pub(crate) fn step(&mut self, rng: &mut Rng) -> Vec<Happening> {
        let mut told = Vec::new();
        self.steps += 1;
        self.turn_beam();
        for fighter in self.fighters.values_mut() {
            fighter.step();
        }
        self.part_fighters();
        self.step_drones(rng);
        self.strike(rng, &mut told);
        self.gather(&mut told);
        let orbs_max = 10 + 2 * self.fighters.len();
        if self.steps.is_multiple_of(ORB_EVERY_TICKS) && self.orbs.len() < orbs_max {
            let (orb, at) = self.place_orb(somewhere(rng));
            told.push(Happening::Orb { orb, at });
        }
        told
    }

    /// Faster with time, and the other way round every 15 s.
    fn turn_beam(&mut self) {
        if self.steps.is_multiple_of(450) {
            let faster = (self.beam_spin.abs() + 6).min(SPIN_MAX);
            self.beam_spin = -self.beam_spin.signum() * faster;
        }
        self.beam_angle = (self.beam_angle + self.beam_spin).rem_euclid(TURN);
    }

    fn place_orb(&mut self, at: Vector) -> (u32, Vector) {
        let (orb, at) = (self.next_orb, keep_clear(at, ORB_RADIUS));
        self.next_orb += 1;
        self.orbs.insert(orb, at);
        (orb, at)
    }

    /// Fighters do not stand in each other. A dash goes through: it is a blow, not a push.
    fn part_fighters(&mut self) {
        let seats: Vec<Seat> = self.fighters.keys().copied().collect();
        for (nth, a) in seats.iter().enumerate() {
            for b in &seats[nth + 1..] {
                let (one, other) = (&self.fighters[a], &self.fighters[b]);
                let way = one.at - other.at;
                let overlap = 2 * FIGHTER_RADIUS - way.length();
                if overlap > 0 && one.dash == 0 && other.dash == 0 {
                    let way = if way == Vector::default() { Vector::new(1, 0) } else { way };
                    self.push(*a, way.scaled_to(overlap / 2));
                    self.push(*b, -way.scaled_to(overlap / 2));
                }
            }
        }
    }

    fn push(&mut self, seat: Seat, way: Vector) {
        if let Some(fighter) = self.fighters.get_mut(&seat) {
            fighter.at = keep_clear(fighter.at + way, FIGHTER_RADIUS);
        }
    }

    fn step_drones(&mut self, rng: &mut Rng) {
        for drone in &mut self.drones {
            if drone.away > 0 {
                drone.away -= 1;
                continue;
            }
            let preys = self.fighters.values().filter(|prey| prey.safe == 0);
            let nearest = preys.min_by_key(|prey| (prey.at - drone.at).length());
            let prey = nearest.filter(|prey| prey.at.is_within(DRONE_SIGHT, drone.at));
            let (goal, speed) = match prey {
                Some(prey) => (prey.at, DRONE_CHASE),
                None => (drone.goal, DRONE_WANDER),
            };
            let way = goal - drone.at;
            drone.at = keep_clear(drone.at + way.scaled_to(speed.min(way.length())), DRONE_RADIUS);
            if prey.is_none() && (rng.one_in(150) || drone.goal.is_within(20 * PX, drone.at)) {
                drone.goal = somewhere(rng);
            }
        }
    }

    /// Dashes first, so that whoever dashes into a drone or a player comes out on top.
    fn strike(&mut self, rng: &mut Rng, told: &mut Vec<Happening>) {
        let mut hits: Vec<(Seat, Cause)> = Vec::new();
        for (seat, fighter) in self.fighters.iter_mut().filter(|(_, fighter)| fighter.dash > 0) {
            for (nth, drone) in self.drones.iter_mut().enumerate().filter(|(_, drone)| drone.away == 0) {
                if fighter.at.is_within(FIGHTER_RADIUS + DRONE_RADIUS, drone.at) {
                    *drone = Drone { at: somewhere(rng), goal: somewhere(rng), away: DRONE_BACK_TICKS };
                    fighter.score += DRONE_BOUNTY;
                    told.push(Happening::Pop { seat: *seat, drone: nth });
                }
            }
        }
        for (seat, fighter) in self.fighters.iter().filter(|(_, fighter)| fighter.can_be_hit()) {
            let dashed_by = self.fighters.iter().find(|(other, attacker)| {
                *other != seat && attacker.dash > 0 && attacker.at.is_within(2 * FIGHTER_RADIUS, fighter.at)
            });
            let near_drone = |drone: &Drone| {
                drone.away == 0 && drone.at.is_within(FIGHTER_RADIUS + DRONE_RADIUS, fighter.at)
            };
            match dashed_by {
                Some((attacker, _)) => hits.push((*seat, Cause::Player(*attacker))),
                None if self.beam_touches(fighter.at) => hits.push((*seat, Cause::Laser)),
                None if self.drones.iter().any(near_drone) => hits.push((*seat, Cause::Drone)),
                None => {}
            }
        }
        for (seat, by) in hits {
            self.hit(rng, seat, by, told);
        }
    }

    /// A hit costs a third of the points, at least one, at most five; they lie about as orbs.
    fn hit(&mut self, rng: &mut Rng, seat: Seat, by: Cause, told: &mut Vec<Happening>) {
        let fighter = self.fighters.get_mut(&seat).expect("only fighters are hit");
        let lost = fighter.score.div_ceil(3).min(5);
        fighter.score -= lost;
        fighter.dazed = DAZED_TICKS;
        fighter.safe = SAFE_TICKS;
        let at = fighter.at;
        told.push(Happening::Hit { seat, by, lost });
        for _ in 0..lost {
            let way = ray(rng.between(0, TURN - 1)).scaled_to(rng.between(50 * PX, 110 * PX));
            let (orb, at) = self.place_orb(at + way);
            told.push(Happening::Orb { orb, at });
        }
    }

    fn beam_touches(&self, at: Vector) -> bool {
        let (way, from) = (ray(self.beam_angle), at - CENTRE);
        let along = (from.x * way.x + from.y * way.y) / ONE;
        let aside = (from.x * way.y - from.y * way.x) / ONE;
        along.abs() <= BEAM_LENGTH * PX && aside.abs() <= FIGHTER_RADIUS + BEAM_HALF_WIDTH
    }

    fn gather(&mut self, told: &mut Vec<Happening>) {
        for (seat, fighter) in self.fighters.iter_mut().filter(|(_, fighter)| fighter.dazed == 0) {
            let reach = FIGHTER_RADIUS + ORB_RADIUS;
            let taken = self.orbs.extract_if(.., |_, at| fighter.at.is_within(reach, *at));
            for (orb, _) in taken {
                fighter.score += 1;
                told.push(Happening::Taken { orb, seat: *seat });
            }
        }
    }
}

impl Fighter {
    fn step(&mut self) {
        self.dash_pause = self.dash_pause.saturating_sub(1);
        self.safe = self.safe.saturating_sub(1);
        if self.dazed > 0 {
            self.dazed -= 1;
            return;
        }
        let way = if self.dash > 0 {
            self.dash -= 1;
            self.facing.scaled_to(DASH)
        } else {
            // Full tilt is one speed in every direction; less on a stick is slower.
            let tilt = self.steer.length().min(127);
            self.steer.scaled_to(RUN * tilt / 127)
        };
        self.at = keep_clear(self.at + way, FIGHTER_RADIUS);
    }

    fn can_be_hit(&self) -> bool {
        self.dash == 0 && self.safe == 0 && self.dazed == 0
    }
}

fn somewhere(rng: &mut Rng) -> Vector {
    Vector::new(rng.between(40 * PX, (WIDTH - 40) * PX), rng.between(40 * PX, (HEIGHT - 40) * PX))
}

/// The nearest place that is inside the walls and outside the hub and the pillars.
fn keep_clear(mut at: Vector, radius: i32) -> Vector {
    let hub = [WIDTH / 2, HEIGHT / 2, HUB_RADIUS];
    for [x, y, wide] in PILLARS.into_iter().chain([hub]) {
        let middle = Vector::px(x, y);
        let way = at - middle;
        let apart = wide * PX + radius;
        if way.length() < apart {
            let way = if way == Vector::default() { Vector::new(0, 1) } else { way };
            at = middle + way.scaled_to(apart);
        }
    }
    Vector::new(at.x.clamp(radius, WIDTH * PX - radius), at.y.clamp(radius, HEIGHT * PX - radius))
}
