//! What is typed becomes the plan that was meant.

use clap::CommandFactory;
use clap::error::ErrorKind;

use super::*;
use crate::plan::{Route, RpcPlan};

fn plan(line: &str) -> anyhow::Result<Plan> {
    let cli = Cli::try_parse_from(line.split(' '))?;
    match cli.command {
        Some(Command::Run(args)) => args.plan(),
        other => panic!("not a run: {other:?}"),
    }
}

#[test]
fn the_definition_is_consistent() {
    Cli::command().debug_assert();
}

#[test]
fn no_command_is_the_demo() {
    let cli = Cli::try_parse_from(["loadgen"]).expect("valid");
    assert!(cli.command.is_none());
    assert_eq!((cli.demo.seed, cli.demo.output.format), (42, Format::Text));
    let cli = Cli::try_parse_from(["loadgen", "demo", "--format", "json", "--out", "x.json"]).expect("valid");
    let Some(Command::Demo(demo)) = cli.command else { panic!("not a demo") };
    assert_eq!((demo.output.format, demo.output.out), (Format::Json, Some("x.json".into())));
}

#[test]
fn defaults_depend_on_the_workload() {
    let store = plan("loadgen run store").expect("valid");
    assert_eq!((store.nodes, store.k, store.concurrency, store.batch, store.size), (5, 4, 64, 1, 256));
    assert_eq!((store.duration, store.ops), (Some(DEFAULT_DURATION), None));
    assert_eq!((store.key_dist, store.ack), (KeyDist::Uniform, Acks::Quorum));

    let find = plan("loadgen run find --ops 100k --rate 2.5k").expect("valid");
    assert_eq!((find.nodes, find.concurrency, find.key_dist), (8, 256, KeyDist::Zipf(0.99)));
    assert_eq!((store.callers, store.churn, store.kill, store.audit), (1, 0.0, 0.0, SAMPLE));
    assert_eq!(find.callers, 8, "a node of many holds a part of the records only");
    assert_eq!((find.duration, find.ops, find.rate), (None, Some(100_000), Some(2500.0)));

    let many = plan("loadgen run store-many --batch 16").expect("valid");
    assert_eq!((many.batch, many.key_dist), (16, KeyDist::Seq));
    assert_eq!(plan("loadgen run store --transport legacy").expect("valid").concurrency, 1);
    let connect = plan("loadgen run connect --nodes 64").expect("valid");
    assert_eq!((connect.nodes, connect.callers), (64, 1));

    let churn = plan("loadgen run find --nodes 64 --k 8 --churn 0.1").expect("valid");
    assert_eq!((churn.callers, churn.churn), (8, 0.1));
    assert_eq!(plan("loadgen run find --nodes 12 --churn 0.1").expect("valid").callers, 3);
}

#[test]
fn every_flag_reaches_the_plan() {
    let plan = plan(
        "loadgen run find-many --nodes 9 --k 3 --duration 1500ms --ops 7 --concurrency 5 --rate 11 --warmup 2s \
         --size 64 --keys 2k --key-dist hotspot:0.1/0.9 --seed 1 --batch 8 --ack all --transport pooled \
         --drain 1s --timeout 3s --callers 4 --churn 0.5 --kill 0.25 --audit 20",
    )
    .expect("valid");
    assert_eq!((plan.nodes, plan.k, plan.concurrency, plan.batch, plan.seed), (9, 3, 5, 8, 1));
    assert_eq!((plan.ops, plan.rate, plan.size, plan.keys), (Some(7), Some(11.0), 64, 2000));
    assert_eq!((plan.callers, plan.churn, plan.kill, plan.audit), (4, 0.5, 0.25, 20));
    let ms = Duration::from_millis;
    let times = (plan.duration, plan.warmup, plan.drain, plan.timeout);
    assert_eq!(times, (Some(ms(1500)), ms(2000), ms(1000), ms(3000)));
    assert_eq!((plan.key_dist, plan.ack), (KeyDist::Hotspot { keys: 0.1, ops: 0.9 }, Acks::All));
}

#[test]
fn runs_that_call_services_have_as_many_nodes_as_they_need() {
    let rpc = |line: &str| {
        let plan = plan(line).expect("valid");
        (plan.nodes, plan.callers, plan.concurrency, plan.rpc.expect("services"))
    };
    let one = RpcPlan {
        providers: 1,
        services: 1,
        route: Route::Direct,
        handler_delay: Duration::ZERO,
        idempotent: false,
    };
    assert_eq!(rpc("loadgen run rpc"), (5, 1, 64, one));
    assert_eq!(rpc("loadgen run rpc --providers 7").0, 8);
    let far = RpcPlan { providers: 2, route: Route::MultiHop, ..one };
    assert_eq!(rpc("loadgen run rpc --route multi-hop --providers 2"), (6, 1, 32, far));
    let slow = RpcPlan { handler_delay: Duration::from_millis(5), idempotent: true, ..one };
    let line = "loadgen run rpc --handler-delay 5ms --idempotent --rate 1k --nodes 4 --callers 3 --size 8";
    assert_eq!(rpc(line), (4, 3, 256, slow));

    let many = RpcPlan { providers: 8, services: 100, ..one };
    assert_eq!(rpc("loadgen run discovery"), (16, 8, 64, many));
    let search = plan("loadgen run discovery --nodes 40 --services 1k").expect("valid");
    assert_eq!((search.callers, search.ops, search.duration), (20, Some(1000), None));
    assert_eq!((search.warmup, search.rpc.map(|rpc| rpc.services)), (Duration::ZERO, Some(1000)));
    assert_eq!(plan("loadgen run store").expect("valid").rpc, None);
}

#[test]
fn nonsense_is_refused() {
    for line in [
        "loadgen run",
        "loadgen run put",
        "loadgen run store --rate 0",
        "loadgen run store --rate fast",
        "loadgen run store --duration 5",
        "loadgen run store --key-dist zipf",
        "loadgen run store --transport legacy --concurrency 2",
        "loadgen run find --transport fresh",
        "loadgen run store --nodes 1",
        "loadgen run store --ops 0",
        "loadgen run store --callers 6",
        "loadgen run store --kill 1",
        "loadgen run store --churn 0.1 --callers 5",
        "loadgen run store --transport fresh --churn 0.1",
        "loadgen run store --providers 2",
        "loadgen run rpc --services 2",
        "loadgen run rpc --size 7",
        "loadgen run rpc --churn 0.1",
        "loadgen run rpc --transport fresh",
        "loadgen run rpc --providers 5 --nodes 5",
        "loadgen run rpc --providers 0",
        "loadgen run rpc --route multi-hop --nodes 4",
        "loadgen run rpc --route multi-hop --nodes 9 --callers 2",
        "loadgen run discovery --idempotent",
        "loadgen run discovery --duration 5s",
        "loadgen run discovery --ops 5",
        "loadgen run discovery --nodes 1",
        "loadgen run discovery --nodes 4 --services 10k",
    ] {
        assert!(plan(line).is_err(), "{line}");
    }
    let error = Cli::try_parse_from(["loadgen", "--help"]).expect_err("help is an early exit");
    assert_eq!(error.kind(), ErrorKind::DisplayHelp);
}
