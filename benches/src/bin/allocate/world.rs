//! The world alone: what one decision costs with its records in a store of memory, without HTTP and signature.
//!
//! Never sends anything: effects are looked at and dropped.

use std::collections::BTreeSet;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::ensure;
use greenroom_control::fence::Fence;
use greenroom_control::world::{
    Answer, Bounds, Call, Effect, Event, IdSource, NewsConfig, Records, RequestId, Results, StreamId,
    Timings, World, WorldConfig,
};
use greenroom_core::{Term, Timestamp};
use greenroom_store::{Kind, MemoryStore, Store as _, term};
use greenroom_wire::Text;
use greenroom_wire::agent::{FromAgent, Report};
use greenroom_wire::api::AllocateRequest;
use greenroom_wire::token::PublicKeys;

use super::{Args, agents, cpu_s, fleet};

/// Calls between two ticks, as many as come in a tenth of a second at the rate that is hoped for.
const CALLS_PER_TICK: u64 = 10_000;

/// Asks until every place is given away, and tells how fast that went: what the loop of `greenroom control` does with a store
/// that keeps in memory, without its tokio and its HTTP. Each batch is stored before its answers are told.
pub(crate) async fn measure(args: &Args) -> anyhow::Result<()> {
    let (mut world, begun_at) = ready(args)?;
    let store = MemoryStore::default();
    let mut fence = Fence::alone(term::raise(&store, Term(0)).await?);
    let places = u64::from(args.servers) * u64::from(args.rooms_per_server);
    let mut calls = (1..).zip((0..places).map(|nth| call(args, nth)).collect::<anyhow::Result<Vec<_>>>()?);
    let mut told = Vec::with_capacity(usize::try_from(places)?);
    let (begun, used) = (Instant::now(), cpu_s("/proc/self/stat")?);
    loop {
        let mut effects = Vec::new();
        for (request, call) in calls.by_ref().take(args.batch.max(1)) {
            // Ten thousand calls are a tenth of a second of the world's time: nothing expires meanwhile that should not.
            let now = begun_at + Duration::from_micros(request * 10);
            effects.extend(
                world.handle(now, Event::Asked { request: RequestId(request), call: Box::new(call) }),
            );
            if request.is_multiple_of(CALLS_PER_TICK) {
                effects.extend(world.handle(now, Event::Tick));
            }
        }
        if effects.is_empty() {
            break;
        }
        if let Some(draft) = fence.draft(begun.elapsed(), &effects) {
            let version = store.commit(draft.batch).await?;
            fence.stored(draft.pledge, version);
        }
        for effect in effects {
            if let Effect::Reply { answer, .. } = effect {
                told.push(*answer);
            }
        }
    }
    let (seconds, used) = (begun.elapsed().as_secs_f64(), cpu_s("/proc/self/stat")? - used);
    let mut rooms = BTreeSet::new();
    for answer in told {
        let Ok(Answer::Allocated(grant)) = answer else { anyhow::bail!("a call was refused: {answer:?}") };
        ensure!(rooms.insert(grant.record.room.to_string()), "{} was given twice", grant.record.room);
    }
    ensure!(rooms.len() as u64 == places, "{} answers to {places} calls", rooms.len());
    let stored = store.load(Kind::Room).await?.len();
    ensure!(stored as u64 == places, "{stored} rooms are stored of {places}");
    println!("allocations              {places}");
    println!("per second               {:.0}", places as f64 / seconds);
    println!("CPU s per million        {:.1}", used * 1e6 / places as f64);
    println!("per second of CPU        {:.0}", places as f64 / used);
    println!("refused or given twice   0");
    Ok(())
}

/// A world whose one host has reported all servers.
fn ready(args: &Args) -> anyhow::Result<(World, Timestamp)> {
    let config = WorldConfig {
        fleets: vec![fleet(args)?],
        keys: PublicKeys::default(),
        term: 1,
        without_leader: None,
        results: Results::Deliver,
        news: NewsConfig::default(),
        triggers: Vec::new(),
        timings: Timings::default(),
        bounds: Bounds::default(),
    };
    let unix = SystemTime::now().duration_since(UNIX_EPOCH)?;
    let now = Timestamp::from_unix_ms(u64::try_from(unix.as_millis())?);
    let (mut world, _) = World::restore(Records::default(), config, IdSource::new([7; 32]), now);
    let stream = StreamId(1);
    drop(world.handle(now, Event::StreamOpened { stream, hello: agents::hello(0)? }));
    let servers = (0..args.servers).map(agents::running).collect::<anyhow::Result<_>>()?;
    let message =
        Box::new(FromAgent::Report(Report { at_ms: None, term: None, trouble: String::new(), servers }));
    drop(world.handle(now, Event::StreamSaid { stream, message }));
    Ok((world, now))
}

fn call(args: &Args, nth: u64) -> anyhow::Result<Call> {
    let players = (0..args.players).map(|player| Ok(Text(format!("p{nth}-{player}").parse()?)));
    let body = AllocateRequest {
        key: None,
        players: players.collect::<anyhow::Result<_>>()?,
        idempotency_key: None,
        timeout_ms: Some(0),
        init: serde_json::Value::Null,
        fill: false,
        select: None,
    };
    Ok(Call::Allocate { fleet: "arena".parse()?, body })
}
