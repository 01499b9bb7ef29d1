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
