use super::*;

fn granted(http: &[&str]) -> Granted {
    let http = http.iter().map(|host| host.parse().expect("a host")).collect();
    Granted::new(Grants { http, ..Grants::default() })
}

/// Expects a host to be read and written again so.
fn check(text: &str, written: &str) {
    assert_eq!(text.parse::<HttpHost>().map(|host| host.to_string()), Ok(written.to_owned()), "{text}");
}

#[test]
fn hosts_are_written_in_one_way() {
    check("api.example.com", "api.example.com");
    check("API.Example.com:443", "api.example.com");
    check("api.example.com:8443", "api.example.com:8443");
    check("*.example.com", "*.example.com");
    check("http://localhost:8080", "http://localhost:8080");
    check("http://10.0.0.1:80", "http://10.0.0.1");
    check("[2001:0db8::1]:8443", "[2001:db8::1]:8443");
    check("[::1]", "[::1]");
}

#[test]
fn what_names_no_host_is_refused() {
    for (text, why) in [
        ("", "neither a name nor an address"),
        ("https://example.com", "https is what \"example.com\" means"),
        ("ftp://example.com", "http://"),
        ("example.com/path", "neither"),
        ("user@example.com", "neither"),
        ("example.com:0", "a port is"),
        ("example.com:+80", "a port is"),
        ("example.com:99999", "a port is"),
        ("example.com:", "a port is"),
        ("example..com", "neither"),
        ("example.com.", "neither"),
        ("exämple.com", "neither"),
        ("*", "the only place for *"),
        ("*.*.com", "the only place for *"),
        ("a*.example.com", "the only place for *"),
        ("*.com", "two labels"),
        ("*.10.0.0.1", "nothing below it"),
        ("127.1", "ends like an address"),
        ("example.0x7f", "ends like an address"),
        ("::1", "neither"),
    ] {
        let said = text.parse::<HttpHost>().expect_err(text);
        assert!(said.contains(why), "{text:?} is answered with {said}");
    }
}

#[test]
fn only_who_is_named_is_called() {
    use Protocol::{Http, Https};
    let granted = granted(&["api.example.com", "*.example.org", "one.example.org:8443", "http://127.0.0.1:8080"]);
    for (protocol, host, port, expected) in [
        (Https, "api.example.com", 443, Ok(Addresses::All)),
        (Https, "API.EXAMPLE.COM", 443, Ok(Addresses::All)),
        (Http, "api.example.com", 80, Err(Denial::NotGranted)),
        (Http, "api.example.com", 443, Err(Denial::NotGranted)),
        (Https, "api.example.com", 8443, Err(Denial::NotGranted)),
        (Https, "www.api.example.com", 443, Err(Denial::NotGranted)),
        (Https, "api.example.com.evil.net", 443, Err(Denial::NotGranted)),
        (Https, "a.example.org", 443, Ok(Addresses::Public)),
        (Https, "a.b.example.org", 443, Ok(Addresses::Public)),
        (Https, "example.org", 443, Err(Denial::NotGranted)),
        (Https, ".example.org", 443, Err(Denial::NotGranted)),
        (Https, "evilexample.org", 443, Err(Denial::NotGranted)),
        (Https, "one.example.org", 8443, Ok(Addresses::All)),
        (Http, "127.0.0.1", 8080, Ok(Addresses::All)),
        (Http, "localhost", 8080, Err(Denial::NotGranted)),
    ] {
        assert_eq!(granted.allows(protocol, host, port), expected, "{protocol:?} {host}:{port}");
    }
}

#[test]
fn a_shadow_calls_nobody_and_has_its_variables() {
    let mut grants = granted(&["api.example.com"]).grants().clone();
    grants.env.insert("NAME".into(), "value".into());
    let shadow = Granted::new(grants.clone()).for_shadow();
    assert_eq!(shadow.allows(Protocol::Https, "api.example.com", 443), Err(Denial::Shadow));
    assert_eq!(*shadow.grants(), grants, "what a component needs to be linked stays");
}

#[test]
fn values_of_variables_are_not_shown() {
    let env: BTreeMap<String, String> = [("TOKEN".to_owned(), "s3cret".to_owned())].into();
    let grants = Grants { env, ..Grants::default() };
    let shown = format!("{grants:?} {:?}", Granted::new(grants.clone()));
    assert!(shown.contains("TOKEN") && !shown.contains("s3cret"), "{shown}");
    for (name, value) in [("", "s3cret"), ("a=b", "s3cret"), ("TOKEN", "s3cret\0")] {
        let wrong = Grants { env: [(name.to_owned(), value.to_owned())].into(), ..Grants::default() };
        assert!(!wrong.check().expect_err(name).contains("s3cret"));
    }
}

#[test]
fn a_refusal_is_told_once() {
    let granted = granted(&[]);
    assert_eq!((granted.told_as("a").as_deref(), granted.told_as("a")), (Some("a"), None));
    let told = (0..2 * REFUSALS_TOLD_MAX).filter_map(|host| granted.told_as(&host.to_string()));
    let (told, last) = told.fold((1, String::new()), |(told, _), refusal| (told + 1, refusal));
    assert_eq!((told, last), (REFUSALS_TOLD_MAX, "of this deployment the last refusal that is told: 98".into()));
}
