//! DNS: look-ups for clusters, and the DNS proxy of the pod.
