mod inspect;
mod loopback;
mod matching;
