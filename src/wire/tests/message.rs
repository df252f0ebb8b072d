//! Any message as one owned value, to say once what holds for all of them.

use bytes::BytesMut;
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;

use crate::id::{ID_LEN, Key, NodeId};
use crate::wire::*;

/// A record of either form: `id` is the key or the publisher.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Owned {
    pub(super) id: [u8; ID_LEN],
    pub(super) seq: u64,
    pub(super) ttl_ms: u32,
    pub(super) kind: u8,
    pub(super) flags: u8,
    pub(super) proof: Vec<u8>,
    pub(super) value: Vec<u8>,
}

impl Owned {
    pub(super) fn record(&self) -> Record<'_> {
        let Self { id, seq, ttl_ms, kind, flags, ref proof, ref value } = *self;
        let (key, kind) = (Key::from_bytes(id), RecordKind(kind));
        Record { key, seq, ttl_ms, kind, flags, proof, value }
    }

    fn found(&self) -> Found<'_> {
        let Record { key, seq, ttl_ms, kind, flags, proof, value } = self.record();
        let publisher = NodeId::from_bytes(*key.as_bytes());
        Found { publisher, seq, ttl_ms, kind, flags, proof, value }
    }

    fn of_record(record: &Record<'_>) -> Self {
        let Record { key, seq, ttl_ms, kind, flags, proof, value } = *record;
        let (id, kind) = (*key.as_bytes(), kind.0);
        Self { id, seq, ttl_ms, kind, flags, proof: proof.to_vec(), value: value.to_vec() }
    }

    fn of_found(found: &Found<'_>) -> Self {
        let Found { publisher, seq, ttl_ms, kind, flags, proof, value } = *found;
        let key = publisher.to_key();
        Self::of_record(&Record { key, seq, ttl_ms, kind, flags, proof, value })
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Message {
    Hello(Hello),
    HelloAck(Hello),
    Ping(Ping),
    Pong(Pong),
    GoAway(GoAway),
    Failed(Failed),
    FindNode(FindNode),
    FindNodeReply(Vec<(NodeId, Vec<String>)>),
    Store(NodeId, Vec<Owned>),
    StoreReply(Vec<Status>),
    FindValue(Vec<Ask>),
    FindValueReply(Vec<(Vec<Owned>, Rest)>),
    Call(String, u32, Vec<u8>),
    Reply(CallStatus, u32, Vec<u8>),
    Publish(String, NodeId, u64, Vec<(u64, Vec<u8>)>),
    PublishReply(Vec<u8>),
    Route(Route<'static>, Vec<u8>),
    RouteReply(u8, Result<(Routed<'static>, Vec<u8>), RouteError>),
}

impl Message {
    pub(super) fn kind(&self) -> Kind {
        match self {
            Self::Hello(_) => Kind::Hello,
            Self::HelloAck(_) => Kind::HelloAck,
            Self::Ping(_) => Kind::Ping,
            Self::Pong(_) => Kind::Pong,
            Self::GoAway(_) => Kind::GoAway,
            Self::Failed(_) => Kind::Failed,
            Self::FindNode(_) => Kind::FindNode,
            Self::FindNodeReply(_) => Kind::FindNodeReply,
            Self::Store(..) => Kind::Store,
            Self::StoreReply(_) => Kind::StoreReply,
            Self::FindValue(_) => Kind::FindValue,
            Self::FindValueReply(_) => Kind::FindValueReply,
            Self::Call(..) => Kind::Call,
            Self::Reply(..) => Kind::Reply,
            Self::Publish(..) => Kind::Publish,
            Self::PublishReply(_) => Kind::PublishReply,
            Self::Route(..) => Kind::Route,
            Self::RouteReply(..) => Kind::RouteReply,
        }
    }

    pub(super) fn encode(&self, id: u64, out: &mut BytesMut) -> Result<(), EncodeError> {
        match self {
            Self::Hello(hello) => hello.encode(id, out),
            Self::HelloAck(hello) => hello.encode_ack(id, out),
            Self::Ping(ping) => ping.encode(id, out),
            Self::Pong(pong) => pong.encode(id, out),
            Self::GoAway(away) => away.encode(id, out),
            Self::Failed(failed) => failed.encode(id, out),
            Self::FindNode(find) => find.encode(id, out),
            Self::FindNodeReply(contacts) => {
                let mut reply = FindNodeReply::open(id, out);
                contacts
                    .iter()
                    .try_for_each(|(id, endpoints)| reply.push(id, endpoints.iter().map(String::as_str), out))
            }
            Self::Store(publisher, records) => store(id, publisher, records, out),
            Self::StoreReply(statuses) => {
                let mut reply = StoreReply::open(id, false, out);
                statuses.iter().try_for_each(|status| reply.push(*status, out))
            }
            Self::FindValue(asks) => {
                let mut batch = FindBatch::open(id, out);
                asks.iter().try_for_each(|ask| batch.push(&ask.key, ask.kind, ask.after.as_ref(), out))
            }
            Self::FindValueReply(answers) => find_reply(id, answers, out),
            Self::Call(service, timeout_ms, args) => {
                Call { service, timeout_ms: *timeout_ms, args }.encode(id, 0, out)
            }
            Self::Reply(status, code, result) => {
                Reply { status: *status, code: *code, result }.encode(id, out)
            }
            Self::Publish(topic, publisher, epoch, publications) => {
                let mut batch = PublishBatch::open(id, topic, publisher, *epoch, out)?;
                publications.iter().try_for_each(|(seq, payload)| {
                    let mut encoded = BytesMut::new();
                    encode_publication(&Publication { seq: *seq, payload }, &mut encoded)?;
                    batch.push(&encoded, out)
                })
            }
            Self::PublishReply(statuses) => {
                let mut reply = PublishReply::open(id, out);
                statuses.iter().try_for_each(|status| reply.push(*status, out))
            }
            Self::Route(route, body) => Route { body, ..route.clone() }.encode(id, out),
            Self::RouteReply(hops, result) => {
                let result = result.as_ref().map(|(routed, body)| Routed { body, ..*routed });
                RouteReply { hops: *hops, result: result.map_err(|error| *error) }.encode(id, out)
            }
        }
    }

    /// Reads the body of a frame of `kind`; kinds without a body have no message.
    pub(super) fn decode(kind: Kind, body: &[u8]) -> Result<Self, BodyError> {
        Ok(match kind {
            Kind::Hello => Self::Hello(Hello::decode(body)?),
            Kind::HelloAck => Self::HelloAck(Hello::decode(body)?),
            Kind::Ping => Self::Ping(Ping::decode(body)?),
            Kind::Pong => Self::Pong(Pong::decode(body)?),
            Kind::GoAway => Self::GoAway(GoAway::decode(body)?),
            Kind::Failed => Self::Failed(Failed::decode(body)?),
            Kind::FindNode => Self::FindNode(FindNode::decode(body)?),
            Kind::FindNodeReply => {
                let owned = |contact: &ContactRef<'_>| {
                    (contact.id, contact.endpoints.clone().map(str::to_owned).collect())
                };
                Self::FindNodeReply(decode_find_node_reply(body)?.iter().map(owned).collect())
            }
            Kind::Store => {
                let frame = decode_store(body)?;
                Self::Store(frame.publisher, frame.records.iter().map(Owned::of_record).collect())
            }
            Kind::StoreReply => Self::StoreReply(decode_store_reply(body)?),
            Kind::FindValue => Self::FindValue(decode_find(body)?),
            Kind::FindValueReply => {
                let owned = |answer: Answer<'_, '_>| {
                    (answer.records.iter().map(Owned::of_found).collect(), answer.rest)
                };
                Self::FindValueReply(decode_find_reply(body)?.answers().map(owned).collect())
            }
            Kind::Call => {
                let Call { service, timeout_ms, args } = Call::decode(body)?;
                Self::Call(service.to_owned(), timeout_ms, args.to_vec())
            }
            Kind::Reply => {
                let Reply { status, code, result } = Reply::decode(body)?;
                Self::Reply(status, code, result.to_vec())
            }
            Kind::Publish => {
                let PublishFrame { topic, publisher, epoch, publications } = decode_publish(body)?;
                let owned = publications.iter().map(|one| (one.seq, one.payload.to_vec())).collect();
                Self::Publish(topic.to_owned(), publisher, epoch, owned)
            }
            Kind::PublishReply => Self::PublishReply(decode_publish_reply(body)?),
            Kind::Route => {
                let route = Route::decode(body)?;
                let inner = route.body.to_vec();
                Self::Route(Route { body: &[], ..route }, inner)
            }
            Kind::RouteReply => {
                let reply = RouteReply::decode(body)?;
                let owned = |routed: Routed<'_>| (Routed { body: &[], ..routed }, routed.body.to_vec());
                Self::RouteReply(reply.hops, reply.result.map(owned))
            }
            Kind::Cancel | Kind::Open | Kind::Unsupported => return Err(BodyError::Type),
        })
    }
}

fn store(id: u64, publisher: &NodeId, records: &[Owned], out: &mut BytesMut) -> Result<(), EncodeError> {
    let mut batch = StoreBatch::open(id, publisher, out);
    records.iter().try_for_each(|record| {
        let mut encoded = BytesMut::new();
        encode_record(&record.record(), &mut encoded)?;
        batch.push(&encoded, out)
    })
}

fn find_reply(id: u64, answers: &[(Vec<Owned>, Rest)], out: &mut BytesMut) -> Result<(), EncodeError> {
    let mut reply = FindReply::open(id, out);
    answers.iter().try_for_each(|(records, rest)| {
        let mut answer = reply.answer(out)?;
        records.iter().try_for_each(|record| answer.push(&record.found()))?;
        answer.end(*rest)
    })
}

/// Numbers around every width that MessagePack has for them.
pub(super) fn number() -> impl Strategy<Value = u64> + Clone {
    (0..=64_u32, -1..=1_i64).prop_map(|(bits, off)| {
        let edge = 1_u64.checked_shl(bits).unwrap_or(0);
        edge.wrapping_add_signed(off)
    })
}

pub(super) fn owned() -> impl Strategy<Value = Owned> + Clone {
    let value = prop_oneof![vec(any::<u8>(), 0..40), vec(any::<u8>(), 250..260)];
    let proof = prop_oneof![Just(Vec::new()), vec(any::<u8>(), PROOF_LEN)];
    (any::<[u8; ID_LEN]>(), number(), number(), any::<u8>(), any::<u8>(), proof, value).prop_map(
        |(id, seq, ttl, kind, flags, proof, value)| {
            let ttl_ms = u32::try_from(ttl).unwrap_or(u32::MAX);
            Owned { id, seq, ttl_ms, kind, flags, proof, value }
        },
    )
}

fn node_id() -> impl Strategy<Value = NodeId> + Clone {
    any::<[u8; ID_LEN]>().prop_map(NodeId::from_bytes)
}

fn key() -> impl Strategy<Value = Key> + Clone {
    any::<[u8; ID_LEN]>().prop_map(Key::from_bytes)
}

fn endpoints() -> impl Strategy<Value = Vec<String>> {
    vec("[a-z0-9.]{1,12}:[0-9]{1,5}", 0..=ENDPOINTS_MAX)
}

fn hello() -> impl Strategy<Value = Hello> {
    let grant = (any::<u32>(), any::<u32>()).prop_map(|(requests, bytes)| Grant { requests, bytes });
    let versions = (any::<u16>(), any::<u16>());
    let proof = option::of(vec(any::<u8>(), 96).prop_map(|bytes| bytes.try_into().expect("96 bytes")));
    let places = ("[^\\x00]{0,40}", endpoints(), option::of("[0-9a-f:\\[\\]]{1,40}"));
    let rest = (any::<bool>(), any::<u64>(), prop::array::uniform4(grant), proof);
    (versions, number(), number(), places, rest).prop_map(|(versions, boot, dial, places, rest)| {
        let (version_min, version_max) = versions;
        let (realm, endpoints, observed) = places;
        let (serves, features, grants, proof) = rest;
        Hello {
            version_min,
            version_max,
            realm,
            boot,
            dial,
            endpoints,
            observed,
            serves,
            features,
            grants,
            proof,
        }
    })
}

fn status() -> impl Strategy<Value = Status> {
    prop_oneof![
        Just(Status::Applied),
        Just(Status::AlreadyHave),
        number().prop_map(|seq| Status::Superseded { seq }),
        (0..7_u8).prop_map(|reason| Status::Rejected(Reject::from_u8(reason))),
        Just(Status::StorageFull),
        Just(Status::Overloaded),
        Just(Status::NotResponsible),
    ]
}

fn control() -> impl Strategy<Value = Message> {
    prop_oneof![
        hello().prop_map(Message::Hello),
        hello().prop_map(Message::HelloAck),
        number().prop_map(|nonce| Message::Ping(Ping { nonce })),
        number().prop_map(|nonce| Message::Pong(Pong { nonce })),
        (any::<u16>(), prop::array::uniform4(number()))
            .prop_map(|(code, last)| Message::GoAway(GoAway { code, last })),
        any::<u16>().prop_map(|code| Message::Failed(Failed { code })),
        (key(), any::<u8>()).prop_map(|(target, count)| Message::FindNode(FindNode { target, count })),
        vec((node_id(), endpoints()), 0..=CONTACTS_MAX).prop_map(Message::FindNodeReply),
    ]
}

fn signature() -> impl Strategy<Value = [u8; 64]> {
    vec(any::<u8>(), 64).prop_map(|bytes| bytes.try_into().expect("64 bytes"))
}

fn routed() -> impl Strategy<Value = Message> {
    let ends = (node_id(), any::<[u8; 32]>(), signature());
    let numbers = (number(), number(), any::<u32>(), any::<u8>(), any::<u8>(), any::<u8>());
    (ends, numbers, vec(node_id(), 0..=usize::from(HOPS_MAX)), vec(any::<u8>(), 0..40)).prop_map(
        |((destination, origin_key, signature), numbers, passed, inner)| {
            let (nonce, issued_ms, left_ms, hops, kind, flags) = numbers;
            let body: &[u8] = &[];
            let route = Route {
                destination,
                origin_key,
                nonce,
                issued_ms,
                left_ms,
                hops,
                passed,
                kind,
                flags,
                body,
                signature,
            };
            Message::Route(route, inner)
        },
    )
}

fn route_reply() -> impl Strategy<Value = Message> {
    let bytes = (any::<[u8; 32]>(), signature(), vec(any::<u8>(), 0..40));
    let answer = (any::<u8>(), any::<u8>(), bytes).prop_map(|(kind, flags, (key, signature, inner))| {
        Ok((Routed { kind, flags, body: &[] as &[u8], key, signature }, inner))
    });
    let error = (1..=5_u8).prop_map(|error| Err(RouteError::from_u8(error).expect("one of them")));
    (any::<u8>(), prop_oneof![answer, error]).prop_map(|(hops, result)| Message::RouteReply(hops, result))
}

fn call() -> impl Strategy<Value = Message> {
    let bytes = || vec(any::<u8>(), 0..40);
    let status = (0..=8_u8).prop_map(|status| CallStatus::from_u8(status).expect("one of them"));
    prop_oneof![
        ("[^\\x00]{0,60}", any::<u32>(), bytes())
            .prop_map(|(service, timeout_ms, args)| Message::Call(service, timeout_ms, args)),
        (status, any::<u32>(), bytes())
            .prop_map(|(status, code, result)| Message::Reply(status, code, result)),
    ]
}

/// Any message, small enough to be cut at each byte.
pub(super) fn message() -> impl Strategy<Value = Message> {
    let ask = (key(), any::<u8>(), option::of(node_id())).prop_map(|(key, kind, after)| Ask {
        key,
        kind: RecordKind(kind),
        after,
    });
    let rest = prop_oneof![Just(Rest::Nothing), Just(Rest::Everything), node_id().prop_map(Rest::After)];
    let publications = vec((number(), vec(any::<u8>(), 0..40)), 0..6);
    prop_oneof![
        3 => control(),
        2 => call(),
        2 => (node_id(), vec(owned(), 0..6)).prop_map(|(id, records)| Message::Store(id, records)),
        1 => vec(status(), 0..40).prop_map(Message::StoreReply),
        1 => vec(ask, 0..20).prop_map(Message::FindValue),
        2 => vec((vec(owned(), 0..4), rest), 0..5).prop_map(Message::FindValueReply),
        1 => ("[a-zäß.]{0,40}", node_id(), number(), publications)
            .prop_map(|(topic, id, epoch, list)| Message::Publish(topic, id, epoch, list)),
        1 => vec(any::<u8>(), 0..40).prop_map(Message::PublishReply),
        2 => routed(),
        1 => route_reply(),
    ]
}
