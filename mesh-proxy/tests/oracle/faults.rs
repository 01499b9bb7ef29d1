//! Injected faults.

use std::time::{Duration, Instant};

use crate::support::{Proxy, Seen, Setup, cluster, compare, get, serve, table};

pub(crate) const BEHAVIOURS: usize = 10;

const ROUTES: &str = r#"
- {match: {prefix: /abort}, route: {cluster: there}, FAULT: {abort: {http_status: 418, percentage: {numerator: 100}}}}
- {match: {prefix: /never}, route: {cluster: there}, FAULT: {abort: {http_status: 418, percentage: {numerator: 0}}, delay: {fixed_delay: 60s, percentage: {numerator: 0}}}}
- {match: {prefix: /unsaid}, route: {cluster: there}, FAULT: {abort: {http_status: 418}}}
- {match: {prefix: /delay}, route: {cluster: there}, FAULT: {delay: {fixed_delay: 0.3s, percentage: {numerator: 10000, denominator: TEN_THOUSAND}}}}
- {match: {prefix: /both}, route: {cluster: there}, FAULT: {delay: {fixed_delay: 0.3s, percentage: {numerator: 100}}, abort: {http_status: 503, percentage: {numerator: 100}}}}
- {match: {prefix: /grpc}, route: {cluster: there}, FAULT: {abort: {grpc_status: 14, percentage: {numerator: 100}}}}
- {match: {prefix: /half}, route: {cluster: there}, FAULT: {abort: {http_status: 418, percentage: {numerator: 500000, denominator: MILLION}}}}
- {match: {prefix: /direct}, direct_response: {status: 200}, FAULT: {abort: {http_status: 418, percentage: {numerator: 100}}}}
"#;

const FAULT: &str = "type.googleapis.com/envoy.extensions.filters.http.fault.v3.HTTPFault";

#[test]
fn faults() {
    let setup = || {
        let mut routes = String::new();
        for line in ROUTES.lines().filter(|line| !line.is_empty()) {
            let (before, fault) = line.split_once("FAULT: {").expect("a fault");
            let fault = fault.strip_suffix('}').expect("an end");
            routes += &format!(
                "{before}typed_per_filter_config: {{envoy.filters.http.fault: {{\"@type\": {FAULT}, {fault}}}}}\n"
            );
        }
        Setup {
            filters: format!("- {{name: envoy.filters.http.fault, typed_config: {{\"@type\": {FAULT}}}}}\n"),
            table: table(RESPONSE, &routes),
            clusters: vec![cluster("there", "", &[serve("there")])],
            ..Setup::default()
        }
    };
    compare("faults", BEHAVIOURS, setup, |proxy, seen| {
        answers(proxy, seen);
        seen.add("statistics of faults", proxy.stats("http.front.fault", &[""]));
        let answers = proxy.ask_often("/half", 800);
        let aborted = answers.iter().filter(|a| a.status == 418).count();
        seen.about("half aborted", proxy, aborted, 400, 80);
    });
}

fn answers(proxy: &Proxy, seen: &mut Seen) {
    let mut ask = seen.asking(proxy);
    ask("aborted", 418, get("/abort"));
    ask("never aborted or delayed", 200, get("/never"));
    ask("no percentage", 200, get("/unsaid"));
    for (name, status, path) in [("delayed", 200, "/delay"), ("delayed, then aborted", 503, "/both")] {
        let began = Instant::now();
        ask(name, status, get(path));
        assert!(began.elapsed() >= Duration::from_millis(250), "{}: {name}", proxy.name);
    }
    ask("aborted with a gRPC status", 200, get("/grpc").grpc());
    ask("aborted with a gRPC status, and no gRPC", 200, get("/grpc"));
    ask("a direct response aborted", 418, get("/direct"));
}

const RESPONSE: &str = "response_headers_to_add: [{header: {key: x-host, value: \"yes\"}}]\n";
