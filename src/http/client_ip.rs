//! Whose request it is: the connection's address, or what a trusted proxy says.
//!
//! `X-Forwarded-For` is a list that everyone on the way appends to, so it is read from the right:
//! the first address that is not a trusted proxy's is the client's. What lies left of it was
//! written by the client and means nothing.

use std::net::{IpAddr, SocketAddr};

use axum::http::HeaderMap;
use ipnet::IpNet;

/// The connection's other end.
#[derive(Clone, Copy, Debug)]
pub struct Peer(pub SocketAddr);

/// The networks whose forwarding header is believed.
#[derive(Clone, Debug, Default)]
pub struct TrustedProxies(Vec<IpNet>);

impl TrustedProxies {
    /// These networks.
    pub fn new(networks: Vec<IpNet>) -> Self {
        Self(networks)
    }

    fn trusts(&self, address: IpAddr) -> bool {
        self.0.iter().any(|network| network.contains(&address))
    }

    /// The client's address.
    pub fn client(&self, peer: IpAddr, headers: &HeaderMap) -> IpAddr {
        let mut client = peer.to_canonical();
        let lists = headers.get_all("x-forwarded-for").iter();
        let lists: Vec<_> = lists.map(|value| value.to_str().unwrap_or_default()).collect();
        for entry in lists.iter().rev().flat_map(|list| list.rsplit(',')) {
            if !self.trusts(client) {
                break;
            }
            let Some(address) = parse(entry.trim()) else { break };
            client = address.to_canonical();
        }
        client
    }
}

/// An address as proxies write it: bare, with a port, or in brackets.
fn parse(text: &str) -> Option<IpAddr> {
    let bare = text.parse::<IpAddr>();
    let with_port = || text.parse::<SocketAddr>().map(|address| address.ip());
    let bracketed = || text.strip_prefix('[')?.strip_suffix(']')?.parse().ok();
    bare.or_else(|_| with_port()).ok().or_else(bracketed)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(trusted: &[&str], peer: &str, forwarded: &[&str]) -> String {
        let networks = trusted.iter().map(|network| network.parse().unwrap()).collect();
        let mut headers = HeaderMap::new();
        for value in forwarded {
            headers.append("x-forwarded-for", value.parse().unwrap());
        }
        headers.append("forwarded", "for=9.9.9.9".parse().unwrap());
        headers.append("x-real-ip", "9.9.9.9".parse().unwrap());
        TrustedProxies::new(networks).client(peer.parse().unwrap(), &headers).to_string()
    }

    #[test]
    fn only_a_trusted_proxy_is_believed_and_only_its_own_entry() {
        let local: &[&str] = &["127.0.0.0/8", "10.0.0.0/8"];
        let cases: &[(&[&str], &str, &[&str], &str)] = &[
            (&[], "1.1.1.1", &["2.2.2.2"], "1.1.1.1"),
            (local, "1.1.1.1", &["2.2.2.2"], "1.1.1.1"),
            (local, "127.0.0.1", &[], "127.0.0.1"),
            (local, "127.0.0.1", &["2.2.2.2"], "2.2.2.2"),
            (local, "127.0.0.1", &["6.6.6.6, 2.2.2.2"], "2.2.2.2"),
            (local, "127.0.0.1", &["6.6.6.6, 2.2.2.2, 10.1.1.1"], "2.2.2.2"),
            (local, "127.0.0.1", &["6.6.6.6", "2.2.2.2"], "2.2.2.2"),
            (local, "127.0.0.1", &["2.2.2.2:5555"], "2.2.2.2"),
            (local, "127.0.0.1", &["[2001:db8::1]:5555"], "2001:db8::1"),
            (local, "127.0.0.1", &["[2001:db8::1]"], "2001:db8::1"),
            (local, "127.0.0.1", &["::ffff:2.2.2.2"], "2.2.2.2"),
            (local, "127.0.0.1", &["2.2.2.2, garbage"], "127.0.0.1"),
            (local, "127.0.0.1", &["2.2.2.2,"], "127.0.0.1"),
            (local, "::ffff:127.0.0.1", &["2.2.2.2"], "2.2.2.2"),
            (&[], "::ffff:1.1.1.1", &[], "1.1.1.1"),
        ];
        for (trusted, peer, forwarded, expected) in cases {
            assert_eq!(client(trusted, peer, forwarded), *expected, "{peer} {forwarded:?}");
        }
    }
}
