mod capture;
mod inspect;
mod loopback;
mod matching;
mod proxy_protocol;
