mod capture;
mod inspect;
mod loopback;
mod matching;
