//! Addresses as text: what is read, what is refused, and that reading undoes printing.

use proptest::prelude::*;

use super::*;

fn id() -> NodeId {
    NodeId::from_bytes([0xab; 32])
}

#[test]
fn the_three_forms_are_read() {
    let text = format!("{}@Seed1.Example:9443", id());
    let addr: PeerAddr = text.parse().unwrap();
    assert_eq!((addr.id(), addr.mode()), (Some(id()), Mode::Mesh));
    assert_eq!((addr.endpoint().name(), addr.endpoint().port()), (Some("seed1.example"), 9443));

    let addr: PeerAddr = "[::1]:1".parse().unwrap();
    assert_eq!((addr.id(), addr.mode()), (None, Mode::Mesh));
    assert_eq!(addr.endpoint().socket_addr(), Some("[::1]:1".parse().unwrap()));

    let addr: PeerAddr = "public:relay.example:443".parse().unwrap();
    assert_eq!((addr.id(), addr.mode()), (None, Mode::Public));
    assert_eq!(addr.endpoint().host(), "relay.example");

    let addr: PeerAddr = "public:443".parse().unwrap();
    assert_eq!((addr.mode(), addr.endpoint().name()), (Mode::Mesh, Some("public")));
}

#[test]
fn bad_text_is_refused_with_its_reason() {
    let label = "a".repeat(64);
    let long = format!("{}:1", ["abcdefgh"; 30].join("."));
    let rows = [
        ("", AddrError::NoPort),
        ("host", AddrError::NoPort),
        ("host:", AddrError::Port),
        ("host:+80", AddrError::Port),
        ("host:65536", AddrError::Port),
        (":80", AddrError::Name),
        ("::1:80", AddrError::NoBrackets),
        ("[::1:80", AddrError::Ip),
        ("[127.0.0.1]:80", AddrError::Ip),
        ("[fe80::1%eth0]:80", AddrError::Ip),
        ("256.1.1.1:80", AddrError::Name),
        ("1.2.3:80", AddrError::Name),
        ("host.:80", AddrError::Name),
        ("a..b:80", AddrError::Name),
        ("-a:80", AddrError::Name),
        ("a b:80", AddrError::Name),
        ("ä.example:80", AddrError::Name),
        (&format!("{label}:80"), AddrError::Name),
        (&long, AddrError::NameLength(30 * 9 - 1)),
        ("ab@host:80", AddrError::Id(ParseIdError::Length(2))),
        ("public:127.0.0.1:80", AddrError::PublicIp),
        ("public:[::1]:80", AddrError::PublicIp),
        ("public:host:", AddrError::Port),
    ];
    for (text, error) in rows {
        assert_eq!(text.parse::<PeerAddr>(), Err(error), "{text:?}");
    }
    let public_id = format!("{}@public:host:80", id());
    assert_eq!(public_id.parse::<PeerAddr>(), Err(AddrError::NoBrackets));
}

#[test]
fn ranges_are_known_also_when_mapped() {
    for ip in ["127.0.0.1", "10.1.2.3", "172.16.0.1", "192.168.1.1", "169.254.0.1"] {
        let mapped = format!("::ffff:{ip}");
        assert!(is_private(ip.parse().unwrap()) && is_private(mapped.parse().unwrap()), "{ip}");
    }
    for ip in ["::1", "fe80::1", "fd00::1"] {
        assert!(is_private(ip.parse().unwrap()), "{ip}");
    }
    for ip in ["8.8.8.8", "172.32.0.1", "2001:db8::1", "::ffff:8.8.8.8"] {
        assert!(!is_private(ip.parse().unwrap()), "{ip}");
    }
    for text in ["0.0.0.0:1", "[::]:1", "[::ffff:0.0.0.0]:1", "host:0"] {
        assert!(text.parse::<Endpoint>().unwrap().is_unspecified(), "{text}");
    }
    assert!(!"host:1".parse::<Endpoint>().unwrap().is_unspecified());
}

fn endpoint() -> impl Strategy<Value = Endpoint> {
    let socket = any::<SocketAddr>().prop_map(Endpoint::from);
    let name = ("([a-z0-9]([a-z0-9_-]{0,20}[a-z0-9])?\\.){0,4}[a-z]{1,20}", any::<u16>())
        .prop_map(|(name, port)| Endpoint::new(&name, port).unwrap());
    prop_oneof![socket, name]
}

proptest! {
    #[test]
    fn reading_undoes_printing(endpoint in endpoint(), id in any::<[u8; 32]>()) {
        prop_assert_eq!(endpoint.to_string().parse::<Endpoint>(), Ok(endpoint.clone()));
        let mut addrs = vec![
            PeerAddr::node(NodeId::from_bytes(id), endpoint.clone()),
            PeerAddr::any(endpoint.clone()),
        ];
        addrs.extend(PeerAddr::public(endpoint));
        for addr in addrs {
            prop_assert_eq!(addr.to_string().parse::<PeerAddr>(), Ok(addr));
        }
    }

    #[test]
    fn whatever_is_read_prints_as_something_that_reads_the_same(text in "[a-z0-9@:.\\[\\]_-]{0,80}|\\PC{0,40}") {
        if let Ok(addr) = text.parse::<PeerAddr>() {
            prop_assert_eq!(addr.to_string().parse::<PeerAddr>(), Ok(addr));
        }
    }
}
