use std::borrow::Cow;
use std::time::{Duration, UNIX_EPOCH};

use http::{HeaderMap, HeaderValue, Method, Uri, Version};

use super::super::ResponseFlags;
use super::super::testing::{connection, manager, telemetry};
use super::super::{RequestContext, request};
use super::*;
use crate::snapshot::Direction;

const ISTIO_TEXT: &str = "[%START_TIME%] \"%REQ(:METHOD)% %REQ(X-ENVOY-ORIGINAL-PATH?:PATH)% %PROTOCOL%\" \
    %RESPONSE_CODE% %RESPONSE_FLAGS% %RESPONSE_CODE_DETAILS% %CONNECTION_TERMINATION_DETAILS% \
    \"%UPSTREAM_TRANSPORT_FAILURE_REASON%\" %BYTES_RECEIVED% %BYTES_SENT% %DURATION% \
    %RESP(X-ENVOY-UPSTREAM-SERVICE-TIME)% \"%REQ(X-FORWARDED-FOR)%\" \"%REQ(USER-AGENT)%\" \"%REQ(X-REQUEST-ID)%\" \
    \"%REQ(:AUTHORITY)%\" \"%UPSTREAM_HOST%\" %UPSTREAM_CLUSTER_RAW% %UPSTREAM_LOCAL_ADDRESS% \
    %DOWNSTREAM_LOCAL_ADDRESS% %DOWNSTREAM_REMOTE_ADDRESS% %REQUESTED_SERVER_NAME% %ROUTE_NAME%\n";

fn record() -> RequestRecord {
    let mut record = RequestRecord::start(Direction::Inbound, Version::HTTP_11);
    record.start_time = Some(UNIX_EPOCH + Duration::from_millis(1_795_000_000_123));
    record.end = Some(record.start + Duration::from_millis(42));
    record.method = Method::POST;
    record.uri = Uri::from_static("/items?id=7");
    record.authority = Some(HeaderValue::from_static("catalog"));
    record.response_code = 503;
    record.flags = ResponseFlags::UPSTREAM_CONNECTION_FAILURE;
    record.details = Cow::Borrowed("upstream reset before response started");
    record.bytes_received = 3;
    record.bytes_sent = 91;
    record.cluster_name = Some("inbound|8080||".into());
    record.upstream_host = "10.0.0.1:8080".parse().ok();
    record.request_id = Some(HeaderValue::from_static("id-1"));
    let mut headers = HeaderMap::new();
    headers.insert("user-agent", HeaderValue::from_static("curl/8"));
    record.request_headers = Some(Box::new(headers));
    record
}

fn line(format: &LogFormat, record: &RequestRecord) -> String {
    let conn = connection(
        Direction::Inbound,
        Vec::new(),
        Some("spiffe://cluster.local/ns/front/sa/web"),
    );
    format.line(&Source::request(record, &conn))
}

fn text(format: &str, record: &RequestRecord) -> String {
    line(&LogFormat::text(format).expect("it compiles"), record)
}

#[test]
fn istios_default_line() {
    let expected = "[2026-11-18T11:06:40.123Z] \"POST /items?id=7 HTTP/1.1\" 503 UF \
        upstream_reset_before_response_started - \"-\" 3 91 42 - \"-\" \"curl/8\" \"id-1\" \"catalog\" \
        \"10.0.0.1:8080\" inbound|8080|| - 10.0.0.1:8080 10.0.0.9:4000 - -\n";
    assert_eq!(text(ISTIO_TEXT, &record()), expected);
    assert!(LogFormat::text(ISTIO_TEXT).expect("it compiles").wants_headers());
    assert!(line(&LogFormat::envoy_default(), &record()).starts_with("[2026-11-18T11:06:40.123Z] \"POST /items"));
}

#[test]
fn json_keeps_types() {
    let keys = [
        ("code", "%RESPONSE_CODE%"),
        ("path", "%REQ(X-ENVOY-ORIGINAL-PATH?:PATH)%"),
        ("sni", "%REQUESTED_SERVER_NAME%"),
        ("both", "%PROTOCOL% \"%DURATION%\" %REQUESTED_SERVER_NAME%"),
    ]
    .map(|(k, v)| (k.to_owned(), v.to_owned()));
    let format = LogFormat::json(&keys).expect("it compiles");
    let expected = r#"{"code":503,"path":"/items?id=7","sni":null,"both":"HTTP/1.1 \"42\" -"}"#;
    assert_eq!(line(&format, &record()), format!("{expected}\n"));
}

#[test]
fn operators() {
    let mut record = record();
    record.grpc_status = Some(14);
    record.original_path = Some(HeaderValue::from_static("/before"));
    for (format, expected) in [
        ("%REQ(USER-AGENT):4%", "curl"),
        ("%REQ(X-ENVOY-ORIGINAL-PATH?:PATH)%", "/before"),
        ("%REQ_WITHOUT_QUERY(:PATH)%", "/items"),
        ("%QUERY_PARAM(id)%", "7"),
        (
            "%GRPC_STATUS% %GRPC_STATUS(SNAKE_STRING)% %GRPC_STATUS_NUMBER%",
            "Unavailable UNAVAILABLE 14",
        ),
        ("%START_TIME(%Y/%m/%d %H:%M:%S)%", "2026/11/18 11:06:40"),
        ("%START_TIME(%s.%3f)%", "1795000000.123"),
        ("%RESPONSE_FLAGS_LONG%", "UpstreamConnectionFailure"),
        (
            "%UPSTREAM_REMOTE_ADDRESS_WITHOUT_PORT%:%UPSTREAM_REMOTE_PORT%",
            "10.0.0.1:8080",
        ),
        ("%DOWNSTREAM_PEER_URI_SAN%", "spiffe://cluster.local/ns/front/sa/web"),
        ("100%%", "100%"),
    ] {
        assert_eq!(text(format, &record), expected, "{format}");
    }
}

#[test]
fn what_is_not_known_is_refused_by_name() {
    for (format, part) in [
        ("%NOPE%", "%NOPE%: not implemented"),
        ("%DURATION", "closing %"),
        ("100% sure", "% sure"),
        ("%REQ%", "%REQ%: an argument"),
        ("%REQ(a?b?c)%", "more than one alternative"),
        ("%REQ(a b)%", "no header name"),
        ("%REQ(a):x%", "no number"),
        ("%START_TIME(%Q%)%", "time pattern"),
        ("%DURATION(x)%", "takes no argument"),
    ] {
        let error = LogFormat::text(format).expect_err(format);
        assert!(error.contains(part), "{format}: {error}");
    }
}

#[test]
fn one_request_is_one_line() {
    let mut record = record();
    record.upstream_failure = Some("a\nb".into());
    assert_eq!(text("%UPSTREAM_TRANSPORT_FAILURE_REASON%", &record), "a_b");
    let mut headers = HeaderMap::new();
    headers.insert(
        "user-agent",
        HeaderValue::from_bytes(b"\xff\"}").expect("allowed in HTTP"),
    );
    record.request_headers = Some(Box::new(headers));
    let format = LogFormat::json(&[("a".to_owned(), "%REQ(user-agent)%".to_owned())]).expect("it compiles");
    assert_eq!(line(&format, &record), "{\"a\":\"\u{fffd}\\\"}\"}\n");
}

#[test]
fn logs_reach_their_file_and_survive_rotation() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("access.log");
    let path_text = path.to_str().expect("UTF-8");
    let format = || LogFormat::text("%RESPONSE_CODE%\n").expect("it compiles");
    let all = AccessLog::new(path_text, format(), ResponseFlags::NONE);
    let only_no_route = AccessLog::new(path_text, format(), ResponseFlags::NO_ROUTE_FOUND);
    let manager = manager(Vec::new(), vec![Arc::new(all), Arc::new(only_no_route)]);
    let telemetry = telemetry("catalog", &Arc::default());
    let conn = connection(Direction::Inbound, Vec::new(), None);
    let ctx = RequestContext {
        conn: &conn,
        manager: &manager,
        stats: &telemetry.http_stats(&manager.stat_prefix),
        telemetry: &telemetry,
    };
    request::finish(&record(), &ctx);
    flush(Duration::from_secs(10));
    assert_eq!(std::fs::read_to_string(&path).expect("the file is there"), "503\n");
    std::fs::rename(&path, folder.path().join("old.log")).expect("rotated");
    reopen();
    let mut not_found = record();
    not_found.response_code = 404;
    not_found.flags = ResponseFlags::NO_ROUTE_FOUND;
    request::finish(&not_found, &ctx);
    flush(Duration::from_secs(10));
    assert_eq!(std::fs::read_to_string(&path).expect("a new file"), "404\n404\n");
    assert!(totals().written >= 3);
}
