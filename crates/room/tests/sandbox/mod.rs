//! A room that uses every part of the context. Never a sensible game.

use std::collections::BTreeMap;

use greenroom_room::{Ctx, Drain, Grace, Player, Reject, Room, Seat, TimerId, To, Why};
use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize)]
pub(crate) struct Sandbox {
    pub(crate) cells: BTreeMap<(i32, i32), u64>,
    pub(crate) at: BTreeMap<Seat, (i32, i32)>,
    pub(crate) mean: f64,
    pub(crate) fuse: Option<TimerId>,
    pub(crate) log: Vec<String>,
}

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Init {
    pub(crate) cells: i32,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum In {
    Step { dx: i32, dy: i32 },
    Paint(u64),
    Fuse { ticks: u64 },
    Defuse,
    Quit,
    Kick(Seat),
    Finish,
    Close,
}

#[derive(Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Out<'a> {
    Welcome { seat: Seat, cells: usize },
    At { seat: Seat, x: i32, y: i32 },
    Boom,
    Gone(&'a str),
}

#[derive(Serialize, Deserialize)]
pub(crate) enum Timer {
    Fuse(Seat),
    Spawn,
}

impl Room for Sandbox {
    type Init = Init;
    type In = In;
    type Out = Out<'static>;
    type Timer = Timer;
    const NAME: &'static str = "sandbox";
    const SEATS_MAX: u16 = 4;
    const INBOX_MAX: usize = 3;

    fn create(ctx: &mut Ctx<Self>, init: Init) -> Result<Self, Reject> {
        if init.cells < 0 {
            return Err(Reject::new(format!("{} cells make no room", init.cells)));
        }
        ctx.after(5, Timer::Spawn);
        let cells = (0..init.cells).map(|x| ((x, 0), ctx.rng().bits())).collect();
        Ok(Self { cells, at: BTreeMap::new(), mean: 0.1, fuse: None, log: Vec::new() })
    }

    fn join(&mut self, ctx: &mut Ctx<Self>, seat: Seat, player: &Player) -> Result<(), Reject> {
        if player.id == "mallory" {
            return Err(Reject::new("mallory is not welcome"));
        }
        self.at.insert(seat, (0, 0));
        ctx.send(To::Only(seat), &Out::Welcome { seat, cells: self.cells.len() });
        Ok(())
    }

    fn message(&mut self, ctx: &mut Ctx<Self>, seat: Seat, input: In) {
        match input {
            In::Step { dx, dy } => {
                let at = self.at.get_mut(&seat).expect("only seated players send");
                *at = ((at.0 + dx).clamp(-9, 9), (at.1 + dy).clamp(-9, 9));
                ctx.send(To::Except(seat), &Out::At { seat, x: at.0, y: at.1 });
            }
            In::Paint(colour) => drop(self.cells.insert(self.at[&seat], colour)),
            In::Fuse { ticks } => self.fuse = Some(ctx.after(ticks, Timer::Fuse(seat))),
            In::Defuse => {
                if let Some(fuse) = self.fuse.take() {
                    ctx.cancel(fuse);
                }
            }
            In::Quit => ctx.kick(seat),
            In::Kick(seat) => ctx.kick(seat),
            In::Finish => ctx.finish(&self.cells.len()),
            In::Close => ctx.close(),
        }
    }

    fn tick(&mut self, ctx: &mut Ctx<Self>) {
        let draw = ctx.rng().below(1000);
        self.mean = self.mean * 0.99 + f64::from(draw) * 0.01;
        if ctx.tick().is_multiple_of(10) && !self.at.is_empty() {
            ctx.send(To::All, &Out::Boom);
        }
    }

    fn timer(&mut self, ctx: &mut Ctx<Self>, timer: Timer) {
        match timer {
            Timer::Fuse(seat) => self.log.push(format!("fuse of {seat} at {}", ctx.tick())),
            Timer::Spawn => {
                let (x, y) = (ctx.rng().between(-9, 9), ctx.rng().between(-9, 9));
                self.cells.insert((x, y), ctx.tick());
                let pause = u64::from(ctx.rng().below(20));
                ctx.after(pause, Timer::Spawn);
            }
        }
        self.log.truncate(50);
    }

    fn dropped(&mut self, ctx: &mut Ctx<Self>, seat: Seat) -> Grace {
        match ctx.player(seat).map(|player| player.id.as_str()) {
            Some("hasty") => Grace::None,
            Some("patient") => Grace::Forever,
            Some("loyal") => Grace::Session,
            Some(_) | None => Grace::Secs(1),
        }
    }

    fn resumed(&mut self, ctx: &mut Ctx<Self>, seat: Seat) {
        ctx.send(To::Only(seat), &Out::Welcome { seat, cells: self.cells.len() });
    }

    fn left(&mut self, ctx: &mut Ctx<Self>, seat: Seat, why: Why) {
        self.at.remove(&seat);
        ctx.send(To::Except(seat), &Out::Gone(if why == Why::Left { "left" } else { "lost" }));
    }

    fn drain(&mut self, _: &mut Ctx<Self>) -> Drain {
        Drain::FinishWithin { secs: 1 }
    }
}
