//! A process that is killed at any instant loses nothing that was acknowledged and leaves no half batch.
//!
//! This program runs itself as the child that commits, kills it, and reads what it left. The seed of the moments is
//! printed; `cargo test -p greenroom-store --test crash -- <seed>` plays it again.

use std::error::Error;
use std::fmt::Write as _;
use std::io::{BufRead, BufReader, Write as _};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::Duration;

use greenroom_store::{Batch, Expect, FileStore, Kind, OpenError, Store, Write};
use rand::{RngExt as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;

/// Kills in one run.
const ROUNDS: u32 = 20;

/// Rooms that stay: batch `n` puts room `n` and deletes the one this far back.
const ROOMS_KEPT: u64 = 5;

/// Longest wait for one acknowledgement.
const PATIENCE: Duration = Duration::from_secs(20);

type Outcome<T> = Result<T, Box<dyn Error>>;

fn main() -> Outcome<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let [word, folder] = arguments.as_slice()
        && word == "child"
    {
        return child(Path::new(folder));
    }
    let told = arguments.iter().find_map(|argument| argument.parse().ok());
    let seed = told.map_or_else(getrandom::u64, Ok)?;
    println!("crash test, seed {seed}");
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let folder = tempfile::tempdir()?;
    let runtime = tokio::runtime::Builder::new_current_thread().build()?;
    let mut stored = 0;
    for round in 0..ROUNDS {
        let acknowledged = kill_one(folder.path(), &mut rng)?.max(stored);
        let store = FileStore::open(folder.path())?;
        stored = runtime.block_on(check(&store))?;
        // The batch under way at the kill may be there or not; more than one cannot be under way.
        if stored < acknowledged || stored > acknowledged + 1 {
            return Err(format!("round {round}: {acknowledged} acknowledged, {stored} stored").into());
        }
    }
    println!("{ROUNDS} kills, {stored} batches");
    Ok(())
}

/// Commits batch after batch and tells each number once it is stored, until it is killed.
fn child(folder: &Path) -> Outcome<()> {
    let store = FileStore::open(folder)?;
    let runtime = tokio::runtime::Builder::new_current_thread().build()?;
    runtime.block_on(async {
        let mut number = check(&store).await?;
        loop {
            number += 1;
            store.commit(batch(number)).await?;
            let mut line = String::new();
            writeln!(line, "{number}")?;
            std::io::stdout().write_all(line.as_bytes())?;
            std::io::stdout().flush()?;
        }
    })
}

fn batch(number: u64) -> Batch {
    let put = |kind, key: String, bytes| Write::Put { kind, key, bytes, expect: Expect::Any };
    let mut batch = Batch::new();
    batch.push(put(Kind::Room, room(number), body(number)));
    if let Some(old) = number.checked_sub(ROOMS_KEPT).filter(|old| *old > 0) {
        batch.push(Write::Delete { kind: Kind::Room, key: room(old), expect: Expect::Any });
    }
    batch.push(put(Kind::Answer, "last".to_owned(), number.to_string().into_bytes()));
    batch
}

fn room(number: u64) -> String {
    format!("r{number:09}")
}

/// Of one byte up to several pages, and different for each number.
fn body(number: u64) -> Vec<u8> {
    let length = usize::try_from(number * number % 9_973 + 1).unwrap_or(1);
    number.to_le_bytes().into_iter().cycle().take(length).collect()
}

/// The number of the last batch; an error when the store is not what exactly that many batches leave.
async fn check(store: &FileStore) -> Outcome<u64> {
    let last = store.load(Kind::Answer).await?;
    let Some(last) = last.first() else {
        let rooms = store.load(Kind::Room).await?.len();
        return if rooms == 0 { Ok(0) } else { Err(format!("{rooms} rooms of a half batch").into()) };
    };
    let last: u64 = String::from_utf8(last.bytes.clone())?.parse()?;
    let rooms = store.load(Kind::Room).await?;
    let expected = (last.saturating_sub(ROOMS_KEPT) + 1)..=last;
    let same = rooms
        .iter()
        .map(|stored| (stored.key.clone(), stored.bytes.clone()))
        .eq(expected.map(|number| (room(number), body(number))));
    if same { Ok(last) } else { Err(format!("the rooms are not those of batch {last}").into()) }
}

/// Starts a child and kills it at a random moment. The last number it told.
fn kill_one(folder: &Path, rng: &mut ChaCha8Rng) -> Outcome<u64> {
    let mut child = Command::new(std::env::current_exe()?)
        .arg("child")
        .arg(folder)
        .stdout(Stdio::piped())
        .stderr(Stdio::inherit())
        .spawn()?;
    let told = wait_and_kill(&mut child, folder, rng);
    // Already dead when all went well; never left behind when not.
    let _already_dead = child.kill();
    child.wait()?;
    told
}

fn wait_and_kill(child: &mut Child, folder: &Path, rng: &mut ChaCha8Rng) -> Outcome<u64> {
    let lines = lines_of(child)?;
    let wait_for = rng.random_range(0..30);
    let mut told = 0;
    for _ in 0..wait_for {
        told = lines.recv_timeout(PATIENCE)?;
    }
    if wait_for == 29 {
        let refused = FileStore::open(folder).err();
        assert!(matches!(refused, Some(OpenError::InUse { .. })), "the child holds the store: {refused:?}");
    }
    // While nothing was told yet it may be making the file; otherwise it is somewhere within a commit.
    let pause_us = if wait_for == 0 { 60_000 } else { 6_000 };
    thread::park_timeout(Duration::from_micros(rng.random_range(0..pause_us)));
    child.kill()?;
    child.wait()?;
    Ok(lines.iter().last().unwrap_or(told))
}

/// The numbers a child tells, until its end.
fn lines_of(child: &mut Child) -> Outcome<Receiver<u64>> {
    let output = BufReader::new(child.stdout.take().ok_or("the child has no output")?);
    let (tell, lines) = mpsc::channel();
    thread::spawn(move || {
        let numbers = output.lines().map_while(Result::ok).filter_map(|line| line.parse().ok());
        for number in numbers {
            if tell.send(number).is_err() {
                break;
            }
        }
    });
    Ok(lines)
}
