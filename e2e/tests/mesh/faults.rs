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
fn exact_failures_of_the_labs_backend_are_retried() {
    let labs = [
        "ch6/simple-web.yaml",
        "ch6/simple-backend-periodic-failure-503.yaml",
        "ch6/simple-web-gateway.yaml",
    ];
    let service = "apiVersion: v1\nkind: ServiceAccount\nmetadata: {name: simple-backend}\n---\napiVersion: v1\nkind: Service\nmetadata: {name: simple-backend}\n\
                   spec:\n  selector: {app: simple-backend}\n  ports: [{name: http, port: 80, targetPort: 8080}]\n";
    let Some(lab) = Lab::start_with("exact_failures_of_the_labs_backend_are_retried", &labs, service) else {
        return;
    };
    let good = |count| lab.ingress_good("simple-web.istioinaction.io", "/", count);
    // The backend answers one of four well: without many retries most requests fail.
    let by_default = good(12);
    assert!((2..=9).contains(&by_default), "{by_default} of 12");
    lab.apply(
        "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {name: simple-backend-vs}\nspec:\n  hosts: [simple-backend]\n  \
         http: [{route: [{destination: {host: simple-backend}}], retries: {attempts: 4, retryOn: '5xx'}}]\n",
    );
    assert_eq!(good(20), 20, "four attempts always find the good one");
}
