use super::*;

#[test]
fn nothing_written_is_istios_defaults() {
    let config = MeshConfig::from_yaml("").unwrap();
    assert_eq!(config, MeshConfig::default());
    assert_eq!(config.connect_timeout, seconds(10));
    assert_eq!(config.outbound_traffic_policy.mode, MeshOutboundMode::AllowAny);
    assert_eq!(config.root_namespace, "istio-system");
    assert!(config.enable_auto_mtls && config.enable_prometheus_merge);
    assert_eq!(config.default_config.discovery_address, "istiod.istio-system.svc:15012");
    assert_eq!(config.default_config.termination_drain_duration, seconds(5));
    assert_eq!(config.validate(), []);
}

#[test]
fn what_is_written_takes_the_place_of_defaults() {
    let config = MeshConfig::from_yaml(
        "
accessLogFile: /dev/stdout
enableAutoMtls: false
outboundTrafficPolicy: {mode: REGISTRY_ONLY}
meshMTLS: {minProtocolVersion: TLSV1_3}
defaultProviders: {metrics: [prometheus]}
discoverySelectors: [{matchLabels: {env: prod}}]
serviceSettings: [{settings: {cluster_local: true}, hosts: ['*.a']}]
defaultConfig:
  concurrency: 1
  tracing: {zipkin: {address: 'zipkin.istio-system:9411'}}
extensionProviders:
- name: envoy
  envoyFileAccessLog: {path: /dev/stderr, logFormat: {labels: {status: '%RESPONSE_CODE%'}}}
- name: jaeger
  opentelemetry: {service: jaeger.a.svc.cluster.local, port: 4317}
",
    )
    .unwrap();
    assert_eq!(config.outbound_traffic_policy.mode, MeshOutboundMode::RegistryOnly);
    assert_eq!(config.mesh_mtls.min_protocol_version, MeshTlsProtocol::V1_3);
    let proxy = &config.default_config;
    assert_eq!((proxy.concurrency, proxy.status_port), (Some(1), 15020));
    assert_eq!(
        proxy.tracing.as_ref().unwrap().sampling,
        1.0,
        "fields beside the written one keep their defaults"
    );
    let names: Vec<&str> = config.extension_providers.iter().map(|p| p.name.as_str()).collect();
    assert_eq!(names, ["envoy", "jaeger", "prometheus", "stackdriver"]);
    assert_eq!(
        config.extension_providers[0]
            .envoy_file_access_log
            .as_ref()
            .unwrap()
            .path,
        "/dev/stderr"
    );
}

#[test]
fn mistakes_are_named() {
    for (yaml, path, words) in [
        ("acessLogFile: a", "acessLogFile", "did you mean \"accessLogFile\"?"),
        (
            "defaultConfig: {conkurrency: 1}",
            "defaultConfig.conkurrency",
            "did you mean \"concurrency\"?",
        ),
        ("connectTimeout: 10", "connectTimeout", "such as 500ms"),
        ("connectTimeout: 0s", "connectTimeout", "at least 1ms"),
        ("proxyListenPort: 70000", "proxyListenPort", "from 0 to 65535"),
        (
            "outboundTrafficPolicy: {mode: ALLOW_ALL}",
            "outboundTrafficPolicy.mode",
            "ALLOW_ANY",
        ),
        (
            "defaultConfig: {proxyMetadata: {A: true}}",
            "defaultConfig.proxyMetadata.A",
            "quotes",
        ),
        (
            "defaultConfig: {tracing: {sampling: 101}}",
            "defaultConfig.tracing.sampling",
            "0 to 100",
        ),
        (
            "extensionProviders: [{name: a}]",
            "extensionProviders[0]",
            "exactly one kind",
        ),
        (
            "extensionProviders: [{name: a, zipkin: {service: z}}]",
            "extensionProviders[0].zipkin.port",
            "no port",
        ),
        ("[]", ".", "map of fields"),
        ("a: b: c", ".", "no YAML"),
    ] {
        let errors = MeshConfig::from_yaml(yaml).expect_err(yaml);
        assert_eq!(errors[0].path, path, "{yaml}: {errors:?}");
        assert!(errors[0].message.contains(words), "{yaml}: {errors:?}");
    }
    let warnings = MeshConfig::from_yaml("defaultConfig: {availabilityZone: a}")
        .unwrap()
        .validate();
    assert_eq!(warnings[0].path, "defaultConfig.availabilityZone");
}

#[test]
fn annotations_replace_fields_and_join_metadata() {
    let mesh = ProxyConfig::from_yaml(
        "{drainDuration: 30s, proxyMetadata: {A: '1', B: '1'}, tracing: {sampling: 5, zipkin: {address: 'z:1'}}}",
    )
    .unwrap();
    let pod = mesh
        .overlay("holdApplicationUntilProxyStarts: true\nproxyMetadata:\n  B: '2'\ntracing:\n  sampling: 7\n")
        .unwrap();
    assert_eq!(pod.drain_duration, seconds(30));
    assert_eq!(
        pod.proxy_metadata
            .iter()
            .map(|(k, v)| format!("{k}={v}"))
            .collect::<Vec<_>>(),
        ["A=1", "B=2"]
    );
    let tracing = pod.tracing.as_ref().unwrap();
    assert_eq!(
        (tracing.sampling, &tracing.zipkin),
        (7.0, &None),
        "a written field replaces the whole field"
    );
    // What the injector writes is what the agent reads.
    let json = pod.to_json();
    assert!(!json.contains("statusPort"), "{json}");
    assert_eq!(ProxyConfig::from_yaml(&json).unwrap(), pod);
    assert_eq!(ProxyConfig::default().to_json(), "{}");
    let errors = mesh.overlay("drainDuration: 0s").unwrap_err();
    assert_eq!(errors[0].path, "drainDuration");
    let errors = mesh.overlay("statusPort: http").unwrap_err();
    assert_eq!(errors[0].path, "statusPort");
}
