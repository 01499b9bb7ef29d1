//! The labs, in the order of the course.

mod canary;
mod chaos;
mod ingress;
mod inside;
mod mutual_tls;
mod resilience;

use super::Lab;

/// All of them; a later one may build on what an earlier one applied.
pub(super) const ALL: [Lab; 16] = [
    Lab {
        name: "ingress",
        title: "webapp behind the ingress gateway",
        about: "A Gateway opens port 80 for all hosts, a VirtualService leads it to webapp, and webapp calls catalog: \
                three proxies take part in every answer.",
        run: ingress::run,
    },
    Lab {
        name: "canary-header",
        title: "canary by header",
        about: "catalog v2 adds an imageUrl to each item. All traffic stays on v1; only requests with the header \
                x-dark-launch: v2 reach v2.",
        run: canary::by_header,
    },
    Lab {
        name: "canary-weight",
        title: "canary by weight",
        about: "The same two versions, shifted by weight while requests go on: 90/10, 50/50, 0/100.",
        run: canary::by_weight,
    },
    Lab {
        name: "chaos-retry",
        title: "chaos, then retries",
        about: "catalog answers half of its requests with 500. A VirtualService with three retries on 5xx hides most of \
                it, and no application is touched.",
        run: chaos::run,
    },
    Lab {
        name: "mutual-tls",
        title: "plaintext or ciphertext on the wire",
        about: "A word is sent from webapp to catalog while the bridge between the pods is recorded. Then STRICT refuses \
                the client that has no sidecar.",
        run: mutual_tls::run,
    },
    Lab {
        name: "resilience-balance",
        title: "resilience: round robin over three pods",
        about: "simple-web calls simple-backend, which has three pods. Its proxy knows them all and takes them in turn.",
        run: resilience::balance::run,
    },
    Lab {
        name: "resilience-slow",
        title: "resilience: one pod is slow",
        about: "One of the three pods takes a second. Who takes turns or draws lots sends it a third of the requests; who counts open requests does not.",
        run: resilience::balance::slow,
    },
    Lab {
        name: "resilience-timeout",
        title: "resilience: a timeout",
        about: "One of the three pods takes a second. With a timeout of half a second its callers get a 504 instead, and \
                do not wait.",
        run: resilience::time::timeout,
    },
    Lab {
        name: "resilience-faults",
        title: "resilience: faults on purpose",
        about: "A route delays or aborts requests, to see how callers take it.",
        run: resilience::time::faults,
    },
    Lab {
        name: "resilience-retries",
        title: "resilience: what retries hide",
        about: "One of the three pods fails three of four requests: a quarter of all. A second attempt goes to another pod.",
        run: resilience::retries::run,
    },
    Lab {
        name: "resilience-408",
        title: "resilience: a filter adds what is retried",
        about: "408 is not among the answers that are retried. An EnvoyFilter changes the route as it is sent to the proxy.",
        run: resilience::retries::by_filter,
    },
    Lab {
        name: "resilience-hedging",
        title: "resilience: a second attempt beside the first",
        about: "One of the three pods takes a second. After 400 ms another attempt begins, and the first answer counts.",
        run: resilience::retries::hedging,
    },
    Lab {
        name: "resilience-limits",
        title: "resilience: limits of connections and requests",
        about: "One connection, one request, one that waits: a second caller is told at once that there is no room.",
        run: resilience::limits::run,
    },
    Lab {
        name: "resilience-outlier",
        title: "resilience: endpoints that fail are left out",
        about: "One failure is enough to leave an endpoint out for some seconds.",
        run: resilience::outlier::run,
    },
    Lab {
        name: "resilience-locality",
        title: "resilience: zones",
        about: "Traffic stays in the zone of its caller while that is healthy.",
        run: resilience::outlier::locality,
    },
    Lab {
        name: "inside",
        title: "what one proxy holds",
        about: "The admin port of webapp's proxy tells what it was sent; nothing in the mesh is a black box.",
        run: inside::run,
    },
];
