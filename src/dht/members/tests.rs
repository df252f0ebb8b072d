//! Members that come, fall silent and go.

#![expect(clippy::disallowed_methods, reason = "tests read the clock")]

use super::*;
use crate::dht::region::{REGION_TTL, Subtree};

const OWN: NodeId = NodeId::from_bytes([0; 32]);
const IP: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

/// A node in the farthest bucket.
fn id(n: u8) -> NodeId {
    let mut bytes = [0x80; 32];
    bytes[31] = n;
    NodeId::from_bytes(bytes)
}

fn key(n: u8) -> Key {
    id(n).to_key()
}

/// Members of `n` nodes, of which all are known to be known.
fn whole(now: Instant, n: u8, k: usize) -> Members<()> {
    let mut members = Members::new(OWN, k);
    for n in 0..n {
        members.connected(now, id(n), IP, ());
    }
    members.learn(now, Region::new(Subtree::WHOLE, (0..n).map(id).collect(), now));
    members
}

fn known(members: &mut Members<()>, now: Instant, key: &Key) -> ReplicaSet {
    match members.replicas(now, key) {
        Cover::Known { set, .. } => set,
        Cover::Unknown => panic!("the replicas of {key} are not known"),
    }
}

#[test]
fn a_mesh_of_no_more_than_k_shares_one_list() {
    let now = Instant::now();
    let mut members = whole(now, 4, 4);
    let set = known(&mut members, now, &key(1));
    assert_eq!((set.nodes.to_vec(), set.target), ((0..4).map(id).collect(), 4));
    assert!(Arc::ptr_eq(&set.nodes, &known(&mut members, now, &key(9)).nodes));
    assert!(members.is_everyone(&set));
    members.connected(now, id(4), IP, ());
    let wider = known(&mut members, now, &key(1));
    assert!(!members.is_everyone(&wider) && !members.is_everyone(&set));
    assert_eq!(wider.nodes[0], id(1), "the closest first");
    assert_eq!(members.replicas(now + REGION_TTL, &key(1)), Cover::Unknown);
}

#[test]
fn who_is_silent_keeps_nobody_from_vouching() {
    let now = Instant::now();
    let mut members = Members::new(OWN, 2);
    for n in 0..2 {
        members.connected(now, id(n), IP, ());
    }
    assert!(!members.is_among(now, &key(0), &id(4), 2));
    members.unreachable(now, &id(1));
    assert!(members.is_among(now, &key(0), &id(4), 2), "the other one is dead");
}

#[test]
fn a_search_begins_with_silent_members_only_if_need_be() {
    let now = Instant::now();
    let mut members = whole(now, 4, 4);
    let known: Vec<NodeId> = members.table().iter().map(|member| member.id).collect();
    let (first, others) = known.split_first().expect("there are members");
    others.iter().for_each(|other| members.unreachable(now, other));
    assert_eq!(members.search_from(now, &key(0)), [*first]);
    members.unreachable(now, first);
    assert!(!members.search_from(now, &key(0)).is_empty());
}

#[test]
fn who_did_not_answer_in_time_stands_behind_fewer_than_k() {
    let now = Instant::now();
    let mut members = whole(now, 4, 4);
    members.unreachable(now, &id(3));
    let (complete, queries, hops) = (true, 4, 1);
    let outcome = |failed| Outcome { target: key(0), nodes: vec![id(1)], complete, queries, failed, hops };
    assert_eq!(members.filled(outcome(0)).nodes, [id(1)]);
    assert_eq!(members.filled(outcome(2)).nodes, [id(1), id(0), id(2)]);
}

#[test]
fn a_silent_node_holds_nothing_and_is_handed_to_nobody_but_kept() {
    let start = Instant::now();
    let mut members = whole(start, 5, 8);
    members.unreachable(start, &id(2));
    let set = known(&mut members, start, &key(2));
    assert!(!set.nodes.contains(&id(2)));
    assert_eq!(set.target, 5, "the larger mesh is remembered");
    let mut told = Vec::new();
    members.closest_answering(&key(2), 8, &mut told);
    assert_eq!((told.len(), told.contains(&id(2))), (4, false));
    assert_eq!(members.closest(start, &key(2), 5).last(), Some(&id(2)));
    assert_eq!((members.answering(), members.table().len()), (4, 5));
    assert_eq!(members.silent_due(start).count(), 0);

    let later = start + AVOIDED;
    assert_eq!(members.silent_due(later).collect::<Vec<_>>(), [&id(2)]);
    assert_eq!(members.closest(later, &key(2), 5)[0], id(2), "it is tried again");
    members.unreachable(later, &id(2));
    members.unreachable(later, &id(2));
    assert_eq!(members.silent_due(later + 2 * AVOIDED - Duration::from_millis(1)).count(), 0);
    assert_eq!(members.silent_due(later + 2 * AVOIDED).count(), 1, "failures at a time count once");

    assert!(members.confirm(later, &id(2)));
    assert_eq!(members.answering(), 5);
    assert!(known(&mut members, later, &key(2)).nodes.contains(&id(2)));
}

#[test]
fn a_member_that_stays_silent_is_forgotten() {
    let start = Instant::now();
    let mut members = whole(start, 3, 8);
    let mut now = start;
    let mut asked = 0;
    while members.table().contains(&id(1)) {
        members.unreachable(now, &id(1));
        asked += 1;
        now += AVOIDED_MAX;
        assert!(now < start + 2 * FORGOTTEN);
    }
    assert!(now >= start + FORGOTTEN && asked > 10);
    assert_eq!(members.answering(), 2);
}

#[test]
fn a_newcomer_takes_the_place_of_a_silent_member_at_once() {
    let now = Instant::now();
    let mut members = Members::new(OWN, 2);
    for n in 0..2 {
        members.connected(now, id(n), IP, ());
    }
    members.unreachable(now, &id(1));
    assert_eq!(members.connected(now, id(2), IP, ()), Insert::Added);
    assert!(!members.table().contains(&id(1)) && members.table().contains(&id(2)));
    assert_eq!(members.connected(now, id(3), IP, ()), Insert::Full { ping: Some(id(0)) });
    members.unreachable(now, &id(0));
    assert!(members.table().contains(&id(3)), "who waits takes the place of who does not answer");
    assert_eq!(members.answering(), 2);
}

#[test]
fn who_leaves_is_gone() {
    let now = Instant::now();
    let mut members = whole(now, 5, 4);
    members.unreachable(now, &id(3));
    members.left(now, &id(3));
    members.left(now, &id(4));
    assert_eq!((members.answering(), members.table().len()), (3, 3));
    assert_eq!(known(&mut members, now, &key(4)).nodes.to_vec(), [id(0), id(1), id(2)]);
}

#[test]
fn a_search_says_how_large_the_mesh_is() {
    let now = Instant::now();
    let mut members: Members<()> = Members::new(OWN, 4);
    let nodes: Vec<_> = (0..3).map(id).collect();
    let outcome =
        Outcome { target: key(0), nodes: nodes.clone(), complete: true, queries: 3, failed: 0, hops: 1 };
    let set = members.found(now, &outcome);
    assert_eq!((set.nodes.to_vec(), set.target), (nodes, 3));
    let outcome = Outcome { nodes: vec![id(0)], ..outcome };
    assert_eq!(members.found(now, &outcome).target, 3, "it does not shrink with who answers");
    let later = now + ack::CLUSTER_MEMORY + Duration::from_secs(1);
    assert_eq!(members.found(later, &outcome).target, 1);
}

#[test]
fn the_closest_are_responsible_and_twice_as_many_may_vouch() {
    let now = Instant::now();
    for surveyed in [false, true] {
        let mut members = Members::new(OWN, 2);
        for n in 0..2 {
            members.connected(now, id(n), IP, ());
        }
        if surveyed {
            members.learn(now, Region::new(Subtree::WHOLE, (0..7).map(id).collect(), now));
        }
        // Distances to the key of 0 are the last byte; the own id is farthest.
        assert!(members.is_close(now, &key(0), &id(1)));
        assert!(!members.is_close(now, &key(0), &id(2)));
        assert!(members.may_vouch(now, &key(0), &id(3)));
        assert_eq!(members.may_vouch(now, &key(0), &id(4)), !surveyed);
        assert!(!members.is_close(now, &key(0), &OWN));
        assert!(members.is_close(now, &OWN.to_key(), &OWN), "a node counts itself");
        assert!(!members.is_close(now, &OWN.to_key(), &id(1)), "the own id is closer");
    }
}

#[test]
fn the_state_of_a_node_in_a_mesh_of_10_000_takes_less_than_40_kib() {
    let now = Instant::now();
    let mut members = Members::new(OWN, 20);
    // Buckets halve: of 10,000 nodes the farthest would take 5,000, the next 2,500, and so on.
    let mut nodes = 0;
    for bucket in 0..14_u32 {
        for n in 0..(5_000_u16 >> bucket) {
            let mut bytes = [0; 32];
            bytes[usize::from(bucket as u8 / 8)] = 0x80 >> (bucket % 8);
            bytes[30..].copy_from_slice(&n.to_be_bytes());
            members.connected(now, NodeId::from_bytes(bytes), IP, [0_u8; 16]);
            nodes += 1;
        }
    }
    assert!(nodes > 9_900 && members.table().len() > 180, "{nodes} nodes");
    assert!(members.memory() < 40 << 10, "{} bytes", members.memory());
}

#[test]
fn who_shares_a_network_with_too_many_is_in_no_region_either() {
    let now = Instant::now();
    let all = || Region::new(Subtree::WHOLE, (0..6).map(id).collect(), now);
    let found = Outcome {
        target: key(0),
        nodes: (0..6).map(id).collect(),
        complete: true,
        queries: 6,
        failed: 0,
        hops: 1,
    };
    for (first, counted) in [([203, 0, 113], 2), ([192, 168, 1], 6)] {
        let mut members = Members::new(OWN, 8);
        members.learn(now, all());
        let [a, b, c] = first;
        for n in 0..6 {
            members.connected(now, id(n), IpAddr::from([a, b, c, n]), ());
        }
        assert_eq!(known(&mut members, now, &key(1)).nodes.len(), counted, "whoever has connected");
        members.found(now, &found);
        assert_eq!(known(&mut members, now, &key(1)).nodes.len(), counted, "whoever was found");
        members.learn(now, all());
        assert_eq!(known(&mut members, now, &key(1)).nodes.len(), counted, "whoever a survey has found");
        // From another address it is welcome.
        members.connected(now, id(5), IpAddr::from([198, 51, 100, 1]), ());
        assert!(known(&mut members, now, &key(1)).nodes.contains(&id(5)));
    }
}
