//! Losses are planted, and found.

use super::*;
use crate::plan::tests::plan;
use crate::target::fake::Fake;

/// A fake with 1,200 stores, and what the receipts claim.
async fn stored() -> (Arc<Fake>, Target, Arc<Data>, Vec<Claim>) {
    let (fake, target) = Fake::default().target();
    let data = Arc::new(Data::new(&plan(), |_| true));
    let mut sample = Sample::new(42, SAMPLE);
    for i in 0..1200 {
        let proof = target.store(data.key(i), data.value(i)).await.expect("no faults");
        sample.offer(i, proof);
    }
    (fake, target, data, sample.into_claims())
}

/// The newest claim on the key of each kind of fault.
fn newest(claims: &[Claim], skip: usize) -> Claim {
    let mut sorted = claims.to_vec();
    sorted.sort_by_key(|claim| std::cmp::Reverse(claim.seq));
    sorted[skip].clone()
}

async fn reasons(target: &Target, data: &Arc<Data>, claims: Vec<Claim>) -> (u64, Vec<&'static str>) {
    let findings = audit(target, data, claims.len() as u64, &Arc::new(claims)).await;
    (findings.missing, findings.losses.iter().map(|loss| loss.reason).collect())
}

#[tokio::test]
async fn kept_promises_are_clean() {
    let (_, target, data, claims) = stored().await;
    assert_eq!(claims.len(), 1200);
    let findings = audit(&target, &data, 1200, &Arc::new(claims)).await;
    assert_eq!((findings.sampled, findings.asked, findings.reads, findings.missing), (1200, 3600, 1200, 0));
    assert_eq!((findings.gone, findings.orphans), (0, 0));
    assert!(findings.losses.is_empty());
}

#[tokio::test]
async fn each_kind_of_loss_is_found() {
    let (fake, target, data, claims) = stored().await;
    let victim = newest(&claims, 0);
    let claim = vec![victim.clone()];

    fake.spoil(1, victim.key, None);
    assert_eq!(reasons(&target, &data, claim.clone()).await, (1, vec!["absent"]));

    fake.spoil(1, victim.key, Some(Held { seq: victim.seq - 1, value: data.value(victim.item) }));
    assert_eq!(reasons(&target, &data, claim.clone()).await, (1, vec!["older"]));

    fake.spoil(1, victim.key, Some(Held { seq: victim.seq, value: data.value(victim.item + 1) }));
    assert_eq!(reasons(&target, &data, claim.clone()).await, (1, vec!["other_value"]));

    fake.spoil(1, victim.key, Some(Held { seq: victim.seq + 9, value: "not ours at all".into() }));
    assert_eq!(reasons(&target, &data, claim.clone()).await, (1, vec!["other_value"]));

    fake.spoil(1, victim.key, Some(Held { seq: victim.seq + 9, value: data.value(3) }));
    assert_eq!(reasons(&target, &data, claim).await, (0, vec![]));

    let mut stranger = victim;
    stranger.replicas = vec![NodeId::from_bytes([9; 32])];
    assert_eq!(reasons(&target, &data, vec![stranger]).await, (1, vec!["no_answer"]));
}

#[tokio::test]
async fn what_a_reader_does_not_find_is_a_loss() {
    let (fake, target, data, claims) = stored().await;
    let victim = newest(&claims, 0);
    // The receipt names only the replicas that still hold it; a reader happens on the first.
    let claim = Claim { replicas: victim.replicas[1..].to_vec(), ..victim.clone() };
    fake.spoil(0, victim.key, None);
    assert_eq!(reasons(&target, &data, vec![claim.clone()]).await, (1, vec!["absent"]));
    fake.spoil(0, victim.key, Some(Held { seq: victim.seq - 1, value: data.value(victim.item) }));
    let findings = audit(&target, &data, 1, &Arc::new(vec![claim.clone()])).await;
    assert_eq!((findings.losses[0].role, findings.losses[0].reason), ("reader", "older"));
    let lone = Claim { replicas: victim.replicas[2..].to_vec(), ..victim.clone() };
    let findings = audit(&target, &data, 1, &Arc::new(vec![lone])).await;
    assert_eq!((findings.missing, findings.stale), (0, 1), "a quorum need not meet the only holder");
    fake.spoil(0, victim.key, Some(Held { seq: victim.seq, value: "not ours at all".into() }));
    let findings = audit(&target, &data, 1, &Arc::new(vec![claim])).await;
    assert_eq!((findings.losses[0].role, findings.losses[0].reason), ("reader", "other_value"));
}

#[tokio::test]
async fn records_whose_replicas_all_died_are_told_apart() {
    let (fake, target, data, claims) = stored().await;
    let claim = newest(&claims, 0);
    fake.kill(0);
    let one = audit(&target, &data, 1, &Arc::new(vec![claim.clone()])).await;
    assert_eq!((one.asked, one.gone, one.missing, one.orphans), (2, 1, 0, 0));
    let copied = Claim { replicas: claim.replicas[..1].to_vec(), ..claim.clone() };
    let found = audit(&target, &data, 1, &Arc::new(vec![copied])).await;
    assert_eq!((found.orphans, found.orphans_lost, found.missing), (1, 0, 0), "others hold a copy");
    (1..3).for_each(|replica| fake.kill(replica));
    let all = audit(&target, &data, 1, &Arc::new(vec![claim])).await;
    assert_eq!((all.asked, all.gone, all.orphans, all.orphans_lost, all.missing), (0, 3, 1, 1, 0));
}

#[tokio::test]
async fn a_planted_claim_is_reported() {
    let (_, target, data, mut claims) = stored().await;
    claims.push(Claim::planted(0, target.planted()));
    assert_eq!(reasons(&target, &data, claims).await, (2, vec!["absent"; 2]), "its replica and its reader");
}

#[test]
fn the_sample_is_the_same_however_it_was_split() {
    let proof = || Proof::Fake(Key::of_name("x"), 1, Vec::new());
    let mut whole = Sample::new(7, SAMPLE);
    (0..10_000).for_each(|i| whole.offer(i, proof()));
    let mut merged = Sample::default();
    for worker in 0..8 {
        let mut part = Sample::new(7, SAMPLE);
        (worker..10_000).step_by(8).for_each(|i| part.offer(i, proof()));
        merged.merge(part);
    }
    assert_eq!(merged.seen(), 10_000);
    let items = |sample: Sample| {
        let mut items: Vec<_> = sample.into_claims().into_iter().map(|claim| claim.item).collect();
        items.sort();
        items
    };
    let (whole, merged) = (items(whole), items(merged));
    assert_eq!(whole.len(), SAMPLE);
    assert_eq!(whole, merged);
}
