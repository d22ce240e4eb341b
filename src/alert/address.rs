//! Which addresses may be spoken to. A receiver is named in a file that people write, but its name is resolved by a server that others
//! may control: what is meant to be out in the world must not lead to what is inside.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use super::SendError;

/// What an address is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Anybody's.
    Public,
    /// This machine.
    Loopback,
    /// A network of one's own.
    Private,
    /// Nobody's to be told anything: link-local (among them what clouds tell their machines), multicast, reserved.
    Never,
}

/// What an address is, also where it is another one in disguise.
pub(super) fn kind(address: IpAddr) -> Kind {
    match address {
        IpAddr::V4(address) => kind_v4(address),
        IpAddr::V6(address) => kind_v6(address),
    }
}

fn kind_v4(address: Ipv4Addr) -> Kind {
    let [a, b, c, d] = address.octets();
    match (a, b, c, d) {
        (127, ..) => Kind::Loopback,
        // What Alibaba's cloud tells its machines, in the middle of the carriers' range.
        (100, 100, 100, 200) => Kind::Never,
        (10, ..) | (172, 16..=31, ..) | (192, 168, ..) | (100, 64..=127, ..) => Kind::Private,
        // This network, link-local, protocol assignments, documentation, measurement, multicast and above.
        (0 | 224.., ..)
        | (169, 254, ..)
        | (192, 0, 0 | 2, _)
        | (198, 18 | 19, ..)
        | (198, 51, 100, _)
        | (203, 0, 113, _) => Kind::Never,
        _ => Kind::Public,
    }
}

fn kind_v6(address: Ipv6Addr) -> Kind {
    if address == Ipv6Addr::LOCALHOST {
        return Kind::Loopback;
    }
    if let Some(inner) = embedded(address) {
        return kind_v4(inner);
    }
    let segments = address.segments();
    match segments[0] {
        // What Amazon's cloud tells its machines, in the middle of the private range.
        0xfd00 if segments == [0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254] => Kind::Never,
        0xfc00..=0xfdff => Kind::Private,
        // Teredo and documentation.
        0x2001 if matches!(segments[1], 0 | 0xdb8) => Kind::Never,
        0x2000..=0x3fff => Kind::Public,
        _ => Kind::Never,
    }
}

/// The IPv4 address that an IPv6 address stands for: mapped, compatible, translated (NAT64), 6to4.
fn embedded(address: Ipv6Addr) -> Option<Ipv4Addr> {
    let of = |high: u16, low: u16| {
        let ([a, b], [c, d]) = (high.to_be_bytes(), low.to_be_bytes());
        Ipv4Addr::new(a, b, c, d)
    };
    match address.segments() {
        [0, 0, 0, 0, 0, 0 | 0xffff, high, low] => Some(of(high, low)),
        [0x64, 0xff9b, 0, 0, 0, 0, high, low] => Some(of(high, low)),
        [0x2002, high, low, ..] => Some(of(high, low)),
        _ => None,
    }
}

/// Who may be spoken to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Allowed {
    /// What is public.
    Public,
    /// That, and loopback and private networks.
    PrivateToo,
    /// Loopback and private networks only: what is sent is not encrypted.
    PrivateOnly,
    /// Loopback only.
    LoopbackOnly,
}

impl Allowed {
    fn allows(self, kind: Kind) -> bool {
        match self {
            Allowed::Public => kind == Kind::Public,
            Allowed::PrivateToo => kind != Kind::Never,
            Allowed::PrivateOnly => matches!(kind, Kind::Private | Kind::Loopback),
            Allowed::LoopbackOnly => kind == Kind::Loopback,
        }
    }
}

/// Those of a name's addresses that may be spoken to, at least one. It is these that are connected to: the name is not asked again.
///
/// # Errors
/// [`SendError::Address`] where there is none.
pub(super) fn allowed(
    found: Vec<SocketAddr>,
    allowed: Allowed,
) -> Result<Vec<SocketAddr>, SendError> {
    let may = |address: &SocketAddr| allowed.allows(kind(address.ip()));
    let fit: Vec<SocketAddr> = found.into_iter().filter(may).collect();
    match fit.is_empty() {
        false => Ok(fit),
        true => Err(SendError::Address(match allowed {
            Allowed::Public => {
                "its address is not public: write `allow: private` where that is meant"
            }
            Allowed::PrivateToo => "its address is link-local, multicast or reserved",
            Allowed::PrivateOnly => "http goes to loopback and private networks only: write https",
            Allowed::LoopbackOnly => "what is not encrypted goes to loopback only",
        })),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &str) -> Kind {
        kind(text.parse().expect(text))
    }

    #[test]
    fn addresses_inside_are_told_from_those_outside() {
        for text in [
            "93.184.216.34",
            "1.1.1.1",
            "2606:2800:220:1::1",
            "100.63.0.1",
            "172.32.0.1",
        ] {
            assert_eq!(of(text), Kind::Public, "{text}");
        }
        for text in [
            "127.0.0.1",
            "127.9.9.9",
            "::1",
            "::ffff:127.0.0.1",
            "64:ff9b::7f00:1",
        ] {
            assert_eq!(of(text), Kind::Loopback, "{text}");
        }
        for text in [
            "10.0.0.1",
            "172.16.0.1",
            "172.31.255.255",
            "192.168.1.1",
            "100.64.0.1",
            "fd12:3456::1",
            "::ffff:10.0.0.1",
            "2002:0a00:0001::",
        ] {
            assert_eq!(of(text), Kind::Private, "{text}");
        }
        for text in [
            "169.254.169.254",
            "::ffff:169.254.169.254",
            "64:ff9b::a9fe:a9fe",
            "2002:a9fe:a9fe::1",
            "::169.254.169.254",
            "fd00:ec2::254",
            "100.100.100.200",
            "0.0.0.0",
            "::",
            "224.0.0.1",
            "255.255.255.255",
            "fe80::1",
            "fec0::1",
            "ff02::1",
            "2001::1",
            "2001:db8::1",
            "192.0.2.1",
        ] {
            assert_eq!(of(text), Kind::Never, "{text}");
        }
    }

    #[test]
    fn only_what_is_allowed_is_connected_to() {
        let all: Vec<SocketAddr> = [
            "1.1.1.1:443",
            "10.0.0.1:443",
            "127.0.0.1:443",
            "169.254.169.254:443",
        ]
        .map(|text| text.parse().expect("an address"))
        .into();
        let count = |may| allowed(all.clone(), may).map(|fit| fit.len()).unwrap_or(0);
        assert_eq!(count(Allowed::Public), 1);
        assert_eq!(count(Allowed::PrivateToo), 3);
        assert_eq!(count(Allowed::PrivateOnly), 2);
        assert_eq!(count(Allowed::LoopbackOnly), 1);
        let metadata = vec![all[3]];
        assert!(allowed(metadata, Allowed::PrivateToo).is_err());
    }
}
