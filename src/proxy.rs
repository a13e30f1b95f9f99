//! The proxy that the environment names, as Go's programs (kubectl among them) and curl understand it.
//!
//! Variables enter; an address and what is called without it leave. Nothing is called. The address may hold a password: it is never told whole.

use http::Uri;
use hyper_util::client::proxy::matcher::Matcher;

/// The variables that name the API server's proxy, as Go takes them, in the order in which they count.
const API_SERVER: [&str; 2] = ["HTTPS_PROXY", "https_proxy"];
/// Those that name AWS's, as curl takes them.
const AWS: [&str; 4] = ["HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"];

/// A proxy and what is called without it.
pub struct Proxy {
    /// Its address, with a scheme. It may hold a password.
    address: Result<Uri, Unusable>,
    rules: String,
}

/// What a variable holds names no proxy that can be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{variable} names no proxy that can be used: it is to be http://HOST:PORT or https://HOST:PORT, and in a password all but letters and digits %XX")]
pub struct Unusable {
    variable: &'static str,
}

impl Proxy {
    /// The API server's, if the environment names one.
    #[must_use]
    pub fn of_api_server() -> Option<Self> {
        Self::find(&API_SERVER, |name| std::env::var(name).ok())
    }

    /// AWS's, if the environment names one.
    #[must_use]
    pub fn of_aws() -> Option<Self> {
        Self::find(&AWS, |name| std::env::var(name).ok())
    }

    fn find(variables: &[&'static str], variable: impl Fn(&str) -> Option<String>) -> Option<Self> {
        let filled = |name: &str| variable(name).map(|value| value.trim().to_owned()).filter(|value| !value.is_empty());
        let (name, address) = variables.iter().find_map(|name| Some((*name, filled(name)?)))?;
        let address = if address.contains("://") { address } else { format!("http://{address}") };
        let is_usable = |address: &Uri| matches!(address.scheme_str(), Some("http" | "https")) && address.host().is_some_and(|host| !host.is_empty());
        // After a `#`, which would end the host, a parser may see nothing to complain about.
        let address = Some(address).filter(|address| !address.contains('#')).and_then(|address| address.parse().ok()).filter(is_usable);
        let address = address.ok_or(Unusable { variable: name });
        let rules = filled("NO_PROXY").or_else(|| filled("no_proxy")).unwrap_or_default();
        Some(Self { address, rules })
    }

    /// Its address. It may hold a password.
    ///
    /// # Errors
    /// It is none.
    pub fn address(&self) -> Result<&Uri, Unusable> {
        self.address.as_ref().map_err(|unusable| *unusable)
    }

    /// What of `NO_PROXY` counts for calls to a port, in curl's form: names, each with all that is below it; addresses, networks, `*`.
    #[must_use]
    pub fn rules(&self, port: u16) -> String {
        let rule = |rule: &str| {
            let rule = rule.trim();
            let rule = match rule.rsplit_once(':') {
                // A whole IPv6 address has more than one.
                Some((host, _)) if host.contains(':') && !host.ends_with(']') => rule,
                Some((host, its)) => {
                    if its.parse() != Ok(port) {
                        return None;
                    }
                    host.trim_matches(['[', ']'])
                }
                None => rule,
            };
            Some(if rule.starts_with("*.") { rule[1..].to_owned() } else { rule.to_owned() })
        };
        self.rules.split(',').filter_map(rule).collect::<Vec<_>>().join(",")
    }

    /// Whether an address is called through it. The machine itself never is.
    #[must_use]
    pub fn takes(&self, address: &Uri) -> bool {
        let any = Matcher::builder().all("http://proxy").no(self.rules(address.port_u16().unwrap_or(443))).build();
        !is_here(address) && any.intercept(address).is_some()
    }
}

/// Whether an address is on this machine's loopback interface.
#[must_use]
pub fn is_here(address: &Uri) -> bool {
    let host = address.host().unwrap_or_default();
    host == "localhost" || host.trim_matches(['[', ']']).parse().is_ok_and(|ip: std::net::IpAddr| ip.is_loopback())
}

/// An address without what may be a password.
#[must_use]
pub fn place(address: &Uri) -> String {
    let port = address.port_u16().map_or_else(String::new, |port| format!(":{port}"));
    format!("{}{port}", address.host().unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn find(variables: &[(&str, &str)]) -> Option<Proxy> {
        Proxy::find(&AWS, |name| variables.iter().find(|(other, _)| *other == name).map(|(_, value)| (*value).to_owned()))
    }

    #[test]
    fn the_first_variable_that_is_not_blank_names_it() {
        let found = |variables: &[(&str, &str)]| find(variables).map(|proxy| proxy.address().expect("an address").to_string());
        assert_eq!(found(&[]), None);
        assert_eq!(found(&[("HTTPS_PROXY", "  "), ("all_proxy", "all:1")]).as_deref(), Some("http://all:1/"));
        assert_eq!(found(&[("https_proxy", " proxy.example.com:3128 "), ("ALL_PROXY", "all:1")]).as_deref(), Some("http://proxy.example.com:3128/"));
        assert_eq!(found(&[("HTTPS_PROXY", "https://a:b%40c@proxy")]).as_deref(), Some("https://a:b%40c@proxy/"));
        for wrong in ["socks5://proxy:1080", "http://", "http://a:b#c@proxy", "http://a b", "ftp://proxy"] {
            let proxy = find(&[("HTTPS_PROXY", wrong)]).expect("a proxy");
            assert_eq!(proxy.address(), Err(Unusable { variable: "HTTPS_PROXY" }), "{wrong}");
        }
    }

    #[test]
    fn what_no_proxy_names_and_the_machine_itself_is_called_directly() {
        let takes = |rules: &str, address: &str| {
            let proxy = find(&[("HTTPS_PROXY", "proxy:1"), ("NO_PROXY", rules)]).expect("a proxy");
            proxy.takes(&address.parse().expect("an address"))
        };
        let server = "https://api.example.com:6443";
        for direct in
            ["*", "example.com", ".example.com", "*.example.com", "other, api.example.com", "api.example.com:6443", "example.com:6443,", "API.example.com"]
        {
            assert!(!takes(direct, server), "{direct}");
        }
        for through in ["", "other.com", "ample.com", "api.example.com:443", "*.other.com", "10.0.0.0/8"] {
            assert!(takes(through, server), "{through}");
        }
        assert!(!takes("10.0.0.0/8", "https://10.1.2.3") && !takes("10.1.2.3:443", "https://10.1.2.3") && takes("10.1.2.3:444", "https://10.1.2.3"));
        assert!(!takes("fd00::1", "https://[fd00::1]:6443") && !takes("[fd00::1]:6443", "https://[fd00::1]:6443"));
        for here in ["https://localhost:6443", "https://127.0.0.1:6443", "https://[::1]:6443"] {
            assert!(!takes("", here), "{here}");
        }
    }

    #[test]
    fn a_place_tells_no_password() {
        assert_eq!(place(&Uri::from_static("http://user:password@proxy.example.com:3128/")), "proxy.example.com:3128");
    }
}
