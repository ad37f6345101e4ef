//! A task is found and kept, against fake endpoints of ECS and EC2.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::time::Duration;

use greenroom_agent::Occupancy;
use greenroom_agent::keeping::{Around, Holds, Kept, Pacing, channel};
use greenroom_ecs::{AddressFrom, Endpoints, Found, TaskError, Tasks, pacing};
use serde_json::{Value, json};
use support::{FakeTask, Trouble};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

const BUSY: Occupancy = Occupancy { busy: true, players: 3 };
const IDLE: Occupancy = Occupancy { busy: false, players: 0 };

fn bound() -> Value {
    json!([{ "ContainerPort": 7000, "Protocol": "tcp", "HostPort": 32_768, "HostIp": "0.0.0.0" }])
}

async fn behind_an_instance(ports: Value) -> FakeTask {
    FakeTask::start(json!({ "NetworkMode": "bridge", "IPv4Addresses": ["172.17.0.2"] }), ports).await
}

fn tasks(fake: &FakeTask) -> Tasks {
    let metadata = format!("{}/v4/abc", fake.url);
    Tasks::at(Endpoints { metadata, instance: fake.url.clone() }).unwrap()
}

async fn find(fake: &FakeTask) -> Result<Found, TaskError> {
    tasks(fake).find(&AddressFrom::External, &(7000..=8000)).await
}

/// Waits until this is true of the task.
async fn until(fake: &FakeTask, what: &str, is: impl Fn(&support::World) -> bool) {
    let looking = async {
        while !fake.read(&is) {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    let within = tokio::time::timeout(Duration::from_secs(20), looking).await;
    assert!(
        within.is_ok(),
        "not within 20 s: {what}; it was told {:?}",
        fake.read(|world| world.puts.clone())
    );
}

struct Keeping {
    agent: Around,
    stop: CancellationToken,
    tasks: JoinSet<()>,
}

impl Keeping {
    fn begin(fake: &FakeTask, pacing: Pacing) -> Self {
        let (agent, engine) = channel(Holds::Busy);
        agent.occupancy.send_replace(Some(IDLE));
        let keeper = tasks(fake).keeper(&format!("{}/agent", fake.url), "158d1c8083dd");
        let (stop, mut tasks) = (CancellationToken::new(), JoinSet::new());
        tasks.spawn(keeper.keep(pacing, engine, stop.clone()));
        Self { agent, stop, tasks }
    }

    async fn told(&self, what: &str, is: impl Fn(&Kept) -> bool) {
        let mut heard = self.agent.kept.clone();
        let within = tokio::time::timeout(Duration::from_secs(20), heard.wait_for(|kept| is(kept))).await;
        assert!(within.is_ok(), "not within 20 s: {what}; it was told {:?}", self.agent.kept.borrow());
    }

    async fn end(mut self) {
        self.stop.cancel();
        self.tasks.join_next().await.unwrap().unwrap();
    }
}

fn fast() -> Pacing {
    let ms = Duration::from_millis;
    Pacing { idle_after: ms(200), retry_first: ms(20), retry_max: ms(100), write_max: ms(400), ..pacing() }
}

#[tokio::test]
async fn a_task_behind_an_instance_is_found_at_its_host_port() {
    let fake = behind_an_instance(bound()).await;
    let found = find(&fake).await.unwrap();
    assert_eq!(found.task, "158d1c8083dd49d6b527399fd6414f5c");
    assert_eq!((found.place.public_host.as_str(), found.place.ports), ("203.0.113.25", 7000..=7000));
    assert_eq!(found.place.dialled, [(7000, 32_768)].into());
    fake.set(|world| world.instance.push(("public-hostname", "ec2-203-0-113-25.example.com")));
    assert_eq!(find(&fake).await.unwrap().place.public_host, "ec2-203-0-113-25.example.com");
}

#[tokio::test]
async fn what_ecs_does_not_know_yet_is_asked_again() {
    let fake = behind_an_instance(json!([{ "ContainerPort": 7000, "Protocol": "tcp" }])).await;
    fake.set(|world| world.metadata_trouble = Some(Trouble::Answer(500, "not yet".to_owned())));
    let mut asking = JoinSet::new();
    let tasks = tasks(&fake);
    asking.spawn(async move { tasks.find(&AddressFrom::External, &(7000..=8000)).await });
    until(&fake, "it asks again what was not answered", |world| world.metadata_asked >= 2).await;
    let before = fake.read(|world| world.metadata_asked);
    fake.set(|world| world.metadata_trouble = Some(Trouble::Slow(Duration::from_millis(300))));
    until(&fake, "it asks again while no host port is told", |world| world.metadata_asked >= before + 4)
        .await;
    let before = fake.read(|world| world.metadata_asked);
    fake.set(|world| world.container["Ports"] = json!([]));
    until(&fake, "it asks again while no port is told at all", |world| world.metadata_asked >= before + 4)
        .await;
    assert!(asking.try_join_next().is_none(), "it is not content with less");
    fake.set(|world| world.container["Ports"] = bound());
    let found = asking.join_next().await.unwrap().unwrap().unwrap();
    assert_eq!(found.place.dialled, [(7000, 32_768)].into());
}

#[tokio::test]
async fn what_cannot_be_read_is_told_with_what_helps() {
    let fake = behind_an_instance(bound()).await;
    fake.set(|world| world.instance_trouble = Some(Trouble::Answer(403, String::new())));
    let (no_imds, on_fargate, nobody) = tokio::join!(
        find(&fake),
        async {
            let own = json!({ "NetworkMode": "awsvpc", "IPv4Addresses": ["10.0.2.61"] });
            find(&FakeTask::start(own, json!([])).await).await
        },
        async {
            let metadata = "http://127.0.0.1:1/v4/abc".to_owned();
            let tasks = Tasks::at(Endpoints { metadata, instance: "http://127.0.0.1:1".to_owned() }).unwrap();
            tasks.find(&AddressFrom::External, &(7000..=8000)).await
        },
    );
    let no_imds = no_imds.unwrap_err().to_string();
    assert!(no_imds.contains("/latest/api/token: it answers 403 Forbidden;"), "{no_imds}");
    assert!(no_imds.contains("with a hop limit of 2"), "{no_imds}");
    let on_fargate = on_fargate.unwrap_err().to_string();
    assert!(on_fargate.contains("set [host] public_host"), "{on_fargate}");
    let nobody = nobody.unwrap_err().to_string();
    assert!(
        nobody.starts_with(
            "the task's metadata cannot be read at http://127.0.0.1:1/v4/abc/task: it cannot be reached: "
        ),
        "{nobody}"
    );
}

#[tokio::test]
async fn a_task_is_protected_while_somebody_is_on_it_and_never_again_once_it_is_idle() {
    let fake = behind_an_instance(bound()).await;
    let keeping = Keeping::begin(&fake, fast());
    until(&fake, "what an agent before may have left is taken away", |world| world.puts.len() == 1).await;
    keeping.agent.occupancy.send_replace(Some(BUSY));
    keeping.told("it is held", |kept| kept.held).await;
    assert!(fake.read(|world| world.is_protected));
    keeping.agent.occupancy.send_replace(Some(IDLE));
    until(&fake, "it may go", |world| !world.is_protected).await;
    keeping.told("it is not held", |kept| !kept.held).await;
    let puts = fake.read(|world| world.puts.clone());
    let off = json!({ "ProtectionEnabled": false });
    assert_eq!(puts, [off.clone(), json!({ "ProtectionEnabled": true, "ExpiresInMinutes": 60 }), off]);
    keeping.end().await;
}

#[tokio::test]
async fn a_protection_is_renewed_before_it_runs_out() {
    let fake = behind_an_instance(bound()).await;
    let ms = Duration::from_millis;
    let soon = Pacing { busy_every: ms(100), cost_every: ms(100), lasts: Some(ms(600)), ..fast() };
    let keeping = Keeping::begin(&fake, soon);
    keeping.agent.occupancy.send_replace(Some(BUSY));
    keeping.told("it is held", |kept| kept.held).await;
    until(&fake, "it is renewed", |world| world.puts.len() >= 5).await;
    assert!(keeping.agent.kept.borrow().held);
    fake.set(|world| world.protection_trouble = Some(Trouble::Silence));
    keeping
        .told("it ran out, and that is known", |kept| !kept.held && kept.trouble.contains("no answer"))
        .await;
    keeping.end().await;
}

#[tokio::test]
async fn whatever_is_wrong_with_the_endpoint_is_told_and_tried_again_until_the_task_is_protected() {
    let fake = behind_an_instance(bound()).await;
    let keeping = Keeping::begin(&fake, fast());
    let arn = "arn:aws:ecs:us-west-2:555555555555:task/my-cluster-name/1234567890abcdef0";
    let failure = json!({ "failure": { "Arn": arn, "Detail": null, "Reason": "DEPLOYMENT_BLOCKED" } });
    let throttled = json!({
        "requestID": "12345-abc-6789-0123-abc",
        "error": { "Arn": arn, "Code": "ThrottlingException", "Message": "Rate exceeded" },
    });
    let troubles = [
        (Trouble::Answer(400, throttled.to_string()), "ThrottlingException: Rate exceeded"),
        (
            Trouble::Answer(200, failure.to_string()),
            "DEPLOYMENT_BLOCKED: no detail is told; the service has more",
        ),
        (Trouble::Answer(502, "bad gateway".to_owned()), "answers 502: \"bad gateway\""),
        (Trouble::Silence, "no answer within 0.4 s"),
    ];
    for (trouble, words) in troubles {
        fake.set(|world| world.protection_trouble = Some(trouble));
        let before = fake.read(|world| world.puts.len());
        keeping.agent.occupancy.send_replace(Some(BUSY));
        keeping.told(words, |kept| !kept.held && kept.trouble.contains(words)).await;
        until(&fake, "it is tried again", |world| world.puts.len() > before + 2).await;
        assert!(!fake.read(|world| world.is_protected), "{words}");
        fake.set(|world| world.protection_trouble = None);
        keeping.told("it is held and all is well", |kept| kept.held && kept.trouble.is_empty()).await;
        keeping.agent.occupancy.send_replace(Some(IDLE));
        until(&fake, "it may go", |world| !world.is_protected).await;
    }
    keeping.end().await;
}

#[tokio::test]
async fn a_slow_endpoint_holds_nothing_up_but_the_protection() {
    let fake = behind_an_instance(bound()).await;
    let keeping = Keeping::begin(&fake, Pacing { write_max: Duration::from_secs(5), ..fast() });
    until(&fake, "it was told at the start", |world| !world.puts.is_empty()).await;
    fake.set(|world| world.protection_trouble = Some(Trouble::Slow(Duration::from_millis(700))));
    let before = fake.read(|world| world.puts.len());
    keeping.agent.occupancy.send_replace(Some(BUSY));
    until(&fake, "it is asked", |world| world.puts.len() > before).await;
    assert!(!keeping.agent.kept.borrow().held, "nobody has answered yet");
    keeping.told("it is held at last", |kept| kept.held && kept.trouble.is_empty()).await;
    keeping.end().await;
}

#[tokio::test]
async fn a_task_that_is_no_services_counts_as_kept() {
    let fake = behind_an_instance(bound()).await;
    let failure = json!({ "failure": { "Arn": "arn", "Detail": null, "Reason": "TASK_NOT_VALID" } });
    fake.set(|world| world.protection_trouble = Some(Trouble::Answer(200, failure.to_string())));
    let keeping = Keeping::begin(&fake, fast());
    keeping.agent.occupancy.send_replace(Some(BUSY));
    keeping.told("nothing would stop it", |kept| kept.held && kept.trouble.is_empty()).await;
    keeping.end().await;
}

#[tokio::test]
async fn what_stands_there_stays_until_the_agent_knows_what_is_on_the_task() {
    let fake = behind_an_instance(bound()).await;
    let (agent, engine) = channel(Holds::Servers);
    let keeper = tasks(&fake).keeper(&format!("{}/agent", fake.url), "158d1c8083dd");
    let stop = CancellationToken::new();
    let mut running = JoinSet::new();
    running.spawn(keeper.keep(fast(), engine, stop.clone()));
    // On a clock that stands still this is over once nobody has anything else to do.
    tokio::time::pause();
    tokio::time::sleep(Duration::from_hours(1)).await;
    tokio::time::resume();
    assert_eq!(fake.read(|world| world.puts.len()), 0, "nothing is known");
    agent.occupancy.send_replace(Some(BUSY));
    until(&fake, "it is told", |world| world.is_protected).await;
    assert_eq!(fake.read(|world| world.puts.len()), 1, "and nothing else before");
    stop.cancel();
    running.join_next().await.unwrap().unwrap();
}
