//! When services fail.

use crate::lab::Lab;

#[test]
fn retries_make_up_for_chaos() {
    let labs = [
        "services/catalog.yaml",
        "services/webapp.yaml",
        "ch2/ingress-gateway.yaml",
    ];
    let Some(lab) = Lab::start("retries_make_up_for_chaos", &labs) else {
        return;
    };
    lab.apply(
        "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {name: catalog}\nspec:\n  hosts: [catalog]\n  \
         http: [{retries: {attempts: 0}, route: [{destination: {host: catalog}}]}]\n",
    );
    let good = |count| lab.ingress_good("webapp", "/api/catalog", count);
    assert_eq!(good(20), 20);

    let catalog = lab.mesh.pod("catalog").expect("a pod");
    let blowup = e2e::runner::Call {
        method: http::Method::POST,
        body: r#"{"active":true,"type":"500","percentage":50}"#.into(),
        ..e2e::runner::Call::get((std::net::Ipv4Addr::LOCALHOST, 3000).into(), "/blowup")
    };
    assert_eq!(
        lab.mesh.http_from(&catalog.name, blowup).expect("an answer").status,
        200
    );
    let without = good(100);
    assert!((25..=75).contains(&without), "{without} of 100 without retries");

    lab.apply_lab("ch2/catalog-virtualservice.yaml");
    // Four tries at one half leave 6 of 100; more than 20 are seven standard deviations away.
    let with = good(100);
    assert!(with >= 80, "{with} of 100 with retries");
}

#[test]
fn a_503_is_retried_by_default_and_a_500_only_when_asked_for() {
    let labs = [
        "ch6/simple-web.yaml",
        "ch6/simple-backend.yaml",
        "ch6/simple-web-gateway.yaml",
    ];
    let name = "a_503_is_retried_by_default_and_a_500_only_when_asked_for";
    let Some(lab) = Lab::start(name, &labs) else {
        return;
    };
    let good = || lab.ingress_good("simple-web.istioinaction.io", "/", 40);
    assert_eq!(good(), 40);

    // One of three endpoints answers three of four requests with 503; retries go to the others.
    lab.apply_lab("ch6/simple-backend-periodic-failure-503.yaml");
    assert_eq!(good(), 40, "503 by default");
    lab.apply_lab("ch6/simple-service-disable-retry.yaml");
    let without = good();
    assert!((15..40).contains(&without), "{without} of 40 without retries");
    lab.apply_lab("ch6/simple-backend-enable-retry.yaml");
    assert_eq!(good(), 40, "503 with attempts and no conditions");

    lab.apply_lab("ch6/simple-backend-periodic-failure-500.yaml");
    let hidden = good();
    assert!((15..40).contains(&hidden), "{hidden} of 40 with 500");
    lab.apply_lab("ch6/simple-backend-vs-retry-500.yaml");
    assert_eq!(good(), 40, "500 with the condition 5xx");
}
