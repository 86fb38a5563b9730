//! Where Redis is: the URL of the configuration, and an address to connect to.

use std::path::PathBuf;

use redis::{Client, ConnectionAddr, IntoConnectionInfo, RedisConnectionInfo, TlsCertificates};
use secrecy::{ExposeSecret, SecretString};

/// The port of Redis, and that of Sentinel.
const PORT: u16 = 6379;
const SENTINEL_PORT: u16 = 26_379;

/// How the servers are found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// One server, or one behind a name that others keep right.
    Single(Address),
    /// Sentinels know which server is the master of this name.
    Sentinel { sentinels: Vec<Address>, master: String },
    /// Any node of a cluster knows all others.
    Cluster { nodes: Vec<Address> },
}

/// Where one server listens.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Address {
    Tcp(String, u16),
    Unix(PathBuf),
}

impl std::fmt::Display for Address {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Tcp(host, port) => write!(f, "{host}:{port}"),
            Self::Unix(path) => write!(f, "{}", path.display()),
        }
    }
}

/// Where Redis is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    pub(super) kind: Kind,
    tls: bool,
}

/// Why a URL is not understood.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct NotAPlace(String);

impl std::str::FromStr for Place {
    type Err = NotAPlace;

    fn from_str(text: &str) -> Result<Self, NotAPlace> {
        let wrong = |why: &str| NotAPlace(why.to_owned());
        let (scheme, rest) = text.split_once("://").ok_or_else(|| {
            wrong(
                "it must begin with redis://, rediss://, redis+sentinel://, redis+cluster:// or \
                 redis+unix:// (rediss+… for TLS)",
            )
        })?;
        if rest.contains('@') {
            return Err(wrong("give user and password in `store.username`, `store.password`"));
        }
        if scheme == "redis+unix" {
            let absolute = rest.starts_with('/');
            let kind = Kind::Single(Address::Unix(rest.into()));
            let place = absolute.then_some(Self { kind, tls: false });
            return place.ok_or_else(|| wrong("a socket is redis+unix:///path/to/socket"));
        }
        let (hosts, path) = rest.split_once('/').unwrap_or((rest, ""));
        let (tls, kind) = match scheme.split_once('+').unwrap_or((scheme, "")) {
            ("redis", kind) => (false, kind),
            ("rediss", kind) => (true, kind),
            _ => return Err(wrong("this scheme is not known")),
        };
        let kind = match kind {
            "" => match &addresses(hosts, PORT)?[..] {
                [one] => Kind::Single(one.clone()),
                _ => {
                    return Err(wrong(
                        "several servers need redis+sentinel:// or redis+cluster://",
                    ));
                }
            },
            "sentinel" if path.is_empty() => {
                return Err(wrong("name the master: redis+sentinel://host,host/mymaster"));
            }
            "sentinel" => {
                let sentinels = addresses(hosts, SENTINEL_PORT)?;
                return Ok(Self {
                    kind: Kind::Sentinel { sentinels, master: path.to_owned() },
                    tls,
                });
            }
            "cluster" => Kind::Cluster { nodes: addresses(hosts, PORT)? },
            _ => return Err(wrong("this scheme is not known")),
        };
        if !path.is_empty() {
            return Err(wrong("give the number of the database in `store.database`"));
        }
        Ok(Self { kind, tls })
    }
}

impl Place {
    /// Whether it is a cluster, which has no numbered databases.
    pub fn is_cluster(&self) -> bool {
        matches!(self.kind, Kind::Cluster { .. })
    }

    /// Whether fail-over is somebody's business there, so that there are replicas.
    pub fn has_replicas(&self) -> bool {
        !matches!(self.kind, Kind::Single(_))
    }

    /// Whether the way there is encrypted.
    pub fn is_tls(&self) -> bool {
        self.tls
    }
}

fn addresses(hosts: &str, port: u16) -> Result<Vec<Address>, NotAPlace> {
    hosts.split(',').map(|host| address(host.trim(), port)).collect()
}

/// `host`, `host:port`, `[v6]` or `[v6]:port`.
fn address(text: &str, port: u16) -> Result<Address, NotAPlace> {
    let wrong = || NotAPlace(format!("\"{text}\" is not host:port"));
    let (host, after) = match text.strip_prefix('[') {
        Some(rest) => rest.split_once(']').ok_or_else(wrong)?,
        None => text.split_at(text.find(':').unwrap_or(text.len())),
    };
    let port = match after.strip_prefix(':') {
        Some(port) => port.parse().map_err(|_| wrong())?,
        None if after.is_empty() => port,
        None => return Err(wrong()),
    };
    if host.is_empty() {
        return Err(wrong());
    }
    Ok(Address::Tcp(host.to_owned(), port))
}

/// Who we are to the servers.
#[derive(Clone, Default)]
pub struct Credentials {
    /// The ACL user; empty is Redis' own `default`.
    pub username: String,
    /// The password; empty if there is none.
    pub password: SecretString,
    /// The number of the database.
    pub database: u32,
    /// A private authority's certificates (PEM) for TLS; otherwise the public ones.
    pub authority: Option<Vec<u8>>,
}

impl Credentials {
    /// What is shown to somebody who only knows where the masters are: the same, and where that is
    /// not wanted (Sentinels often have no password), nothing. There are no databases there.
    pub(super) fn of_scouts(&self) -> [Self; 2] {
        let authority = self.authority.clone();
        [Self { database: 0, ..self.clone() }, Self { authority, ..Self::default() }]
    }

    /// A client for one address.
    pub(super) fn client(&self, address: &Address, tls: bool) -> redis::RedisResult<Client> {
        let mut settings = RedisConnectionInfo::default();
        if !self.username.is_empty() {
            settings = settings.set_username(&self.username);
        }
        if !self.password.expose_secret().is_empty() {
            settings = settings.set_password(self.password.expose_secret());
        }
        settings = settings.set_db(self.database.into());
        // Off by default, it would hold small commands back for 40 ms.
        let tcp = redis::io::tcp::TcpSettings::default().set_nodelay(true);
        let address = match address.clone() {
            Address::Tcp(host, port) if tls => {
                ConnectionAddr::TcpTls { host, port, insecure: false, tls_params: None }
            }
            Address::Tcp(host, port) => ConnectionAddr::Tcp(host, port),
            Address::Unix(path) => ConnectionAddr::Unix(path),
        };
        let info = address.into_connection_info()?.set_redis_settings(settings);
        let info = info.set_tcp_settings(tcp);
        if tls {
            let root_cert = self.authority.clone();
            return Client::build_with_tls(info, TlsCertificates { client_tls: None, root_cert });
        }
        Client::open(info)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tcp(host: &str, port: u16) -> Address {
        Address::Tcp(host.to_owned(), port)
    }

    #[test]
    fn every_way_to_name_servers_is_understood() {
        let single = |text: &str| match text.parse::<Place>().unwrap().kind {
            Kind::Single(address) => address,
            other => panic!("{other:?}"),
        };
        assert_eq!(single("redis://localhost"), tcp("localhost", 6379));
        assert_eq!(single("rediss://[::1]:7000"), tcp("::1", 7000));
        assert_eq!(single("redis+unix:///run/r.sock"), Address::Unix("/run/r.sock".into()));
        let sentinel: Place = "redis+sentinel://a,b:1/main".parse().unwrap();
        let sentinels = vec![tcp("a", 26_379), tcp("b", 1)];
        assert_eq!(sentinel.kind, Kind::Sentinel { sentinels, master: "main".to_owned() });
        let cluster: Place = "rediss+cluster://a:1,b:2".parse().unwrap();
        assert_eq!(cluster.kind, Kind::Cluster { nodes: vec![tcp("a", 1), tcp("b", 2)] });
        assert!(cluster.is_tls() && cluster.is_cluster() && !sentinel.is_tls());
    }

    #[test]
    fn what_is_wrong_is_told_without_a_password() {
        for (text, part) in [
            ("localhost:6379", "must begin with"),
            ("http://localhost", "not known"),
            ("redis://user:secret@localhost", "store.password"),
            ("redis://a,b", "redis+sentinel"),
            ("redis://a/3", "store.database"),
            ("redis+sentinel://a", "name the master"),
            ("redis://a:x", "host:port"),
            ("redis://", "host:port"),
            ("redis+unix://run", "redis+unix:///"),
        ] {
            let told = text.parse::<Place>().unwrap_err().to_string();
            assert!(told.contains(part) && !told.contains("secret"), "{text}: {told}");
        }
    }
}
