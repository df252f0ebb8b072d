//! Answering peers: STORE, FIND_VALUE and FIND_NODE, on the task that read the frame.

use std::net::IpAddr;
use std::ops::ControlFlow;
use std::time::Instant;

use bytes::BytesMut;

use super::contact::is_loopback;
use super::screen::Screened;
use super::{DhtService, by_shard, lock, shard_of};
use crate::dht::store::Origin;
use crate::id::NodeId;
use crate::pool::{LANE_FRAME_MAX, Later, Violation};
use crate::runtime;
use crate::wire::{
    self, CONTACTS_MAX, FindNode, FindNodeReply, FindReply, Found, Record, Rest, Status, StoreFrame,
    StoreReply,
};

impl DhtService {
    /// Applies a STORE batch and answers one status per record, after it is in the store, and on disk if
    /// the node has a data directory.
    pub(crate) fn answer_store(
        &self,
        from: &NodeId,
        id: u64,
        body: &[u8],
        out: &mut BytesMut,
        later: &mut Later,
    ) -> Result<(), Violation> {
        let batch = wire::decode_store(body).map_err(|_| Violation::Malformed)?;
        // What a node takes while it leaves would be handed over to nobody.
        let statuses = if self.is_closing() || !self.has_room_on_disk() {
            vec![Status::Overloaded; batch.records.len()]
        } else {
            self.keep(from, &batch)
        };
        let Some(statuses) = self.reply_when_durable(&batch, statuses, later) else { return Ok(()) };
        let mut reply = StoreReply::open(id, false, out);
        for status in statuses {
            reply.push(status, out).map_err(|_| Violation::Malformed)?;
        }
        Ok(())
    }

    /// Applies what may be in the store and refuses the rest.
    fn keep(&self, from: &NodeId, batch: &StoreFrame<'_>) -> Vec<Status> {
        let now = runtime::now();
        match self.screen(now, from, batch) {
            Screened::All(origin) => self.apply(now, &batch.publisher, origin, &batch.records),
            Screened::Some { admitted, origin, mut statuses } => {
                let records: Vec<_> = admitted.iter().map(|place| batch.records[*place]).collect();
                let applied = self.apply(now, &batch.publisher, origin, &records);
                for (place, status) in admitted.into_iter().zip(applied) {
                    statuses[place] = status;
                }
                statuses
            }
        }
    }

    /// Applies the records shard by shard, in their order within each shard.
    fn apply(&self, now: Instant, publisher: &NodeId, origin: Origin, records: &[Record<'_>]) -> Vec<Status> {
        let mut statuses = vec![Status::Overloaded; records.len()];
        if let ([record], [status]) = (records, statuses.as_mut_slice()) {
            let mut shard = lock(&self.shards[shard_of(&record.key)]);
            shard.apply(now, publisher, origin, [*record], |applied| *status = applied);
            return statuses;
        }
        let (order, runs) = by_shard(records.iter().map(|record| &record.key));
        for (shard, run) in runs {
            let places = &order[run];
            let part = places.iter().map(|place| records[*place as usize]);
            let mut next = places.iter();
            lock(&self.shards[shard]).apply(now, publisher, origin, part, |applied| {
                if let Some(place) = next.next() {
                    statuses[*place as usize] = applied;
                }
            });
        }
        statuses
    }

    /// Answers a FIND_VALUE batch from the replica store, in pages of at most 64 KiB.
    pub(crate) fn answer_find(&self, id: u64, body: &[u8], out: &mut BytesMut) -> Result<(), Violation> {
        let asks = wire::decode_find(body).map_err(|_| Violation::Malformed)?;
        let now = runtime::now();
        let start = out.len();
        let mut reply = FindReply::open(id, out);
        for ask in asks {
            let before = out.len();
            let spent = before - start;
            let mut answer = reply.answer(out).map_err(|_| Violation::Malformed)?;
            let mut rest = Rest::Nothing;
            let mut last = ask.after;
            let mut put = |found: Found<'_>| {
                let size = found.value.len() + wire::RECORD_OVERHEAD_MAX;
                let first = spent == 0 || spent <= wire::FIND_REPLY_PREFIX;
                let fits = spent + answer.len() + size <= LANE_FRAME_MAX;
                let alone = first && answer.is_empty();
                if !fits && !alone {
                    rest = last.map_or(Rest::Everything, Rest::After);
                    return ControlFlow::Break(());
                }
                last = Some(found.publisher);
                match answer.push(&found) {
                    Ok(()) => ControlFlow::Continue(()),
                    Err(_) => ControlFlow::Break(()),
                }
            };
            // A writer that is close to the key itself counts as a replica for its readers.
            let mut own = self
                .own(now, &ask.key, ask.kind)
                .filter(|_| ask.after.is_none_or(|after| after < self.local));
            let mut whole = true;
            let shard = self.shard(&ask.key);
            shard.find(now, &ask.key, ask.kind, ask.after.as_ref(), |found| {
                let said = match own.take_if(|own| own.publisher < found.publisher) {
                    Some(own) => put(own.as_found()),
                    None => ControlFlow::Continue(()),
                };
                let said = if said.is_continue() { put(found) } else { said };
                whole = said.is_continue();
                said
            });
            if let Some(own) = own.filter(|_| whole) {
                let _ = put(own.as_found());
            }
            drop(shard);
            answer.end(rest).map_err(|_| Violation::Malformed)?;
        }
        Ok(())
    }

    /// Answers FIND_NODE with the nodes of the table closest to the target, the asker left out.
    pub(crate) fn answer_find_node(
        &self,
        from: &NodeId,
        id: u64,
        body: &[u8],
        out: &mut BytesMut,
    ) -> Result<(), Violation> {
        let ask = FindNode::decode(body).map_err(|_| Violation::Malformed)?;
        let count = usize::from(ask.count).clamp(1, CONTACTS_MAX);
        let asker = self.address_of(from);
        let near = asker.is_some_and(is_loopback);
        let mut reply = FindNodeReply::open(id, out);
        let members = lock(&self.members);
        let mut nodes = Vec::with_capacity(2 * count);
        members.closest_answering(&ask.target, count + 1, &mut nodes);
        for node in nodes.iter().filter(|node| *node != from).take(count) {
            let Some(member) = members.table().get(node) else { continue };
            match member.info.told(near) {
                Some(contact) => reply.push_encoded(contact, out),
                // Who came by a route goes on by a route: that a node is there is worth telling without
                // where it listens.
                None if asker.is_none() => {
                    let mut nameless = BytesMut::new();
                    let encoded = wire::encode_contact(node, std::iter::empty(), &mut nameless);
                    encoded.and_then(|()| reply.push_encoded(&nameless, out))
                }
                None => continue,
            }
            .map_err(|_| Violation::Malformed)?;
        }
        Ok(())
    }

    /// The address that a peer was seen at; none of one that has only come by a route.
    fn address_of(&self, peer: &NodeId) -> Option<IpAddr> {
        let member = lock(&self.members).table().get(peer).map(|member| member.ip);
        // Of one that is not a member, such as one that only asks, its connection tells.
        member.or_else(|| self.pool.remote(peer).map(|addr| addr.ip()))
    }
}
