//! Messages between emulated devices: what they hold, and what is refused.

use crate::{
    backend::{
        Backend, BackendError, DeviceLink, Result, Window,
        cuda::{
            Cuda, CudaConfig,
            driver::{
                Driver, Memory,
                emulated::Emulated,
                link::{Link, Piece},
            },
        },
    },
    comm::{Comm, CommError, Patience, What, threads},
};
use std::{rc::Rc, thread, time::Duration};

/// What each of two ranks comes to, with its device and the way to the other's.
fn two<T: Send + 'static>(
    bare: bool,
    work: fn(usize, &Rc<dyn Driver>, &dyn Link) -> T,
) -> Option<[T; 2]> {
    let id = Emulated::open(bare)?.link_id().unwrap();
    let all = [0, 1].map(|rank| {
        thread::spawn(move || {
            let driver = Emulated::open(bare).unwrap();
            let link = driver.link(id, rank, 2).unwrap();
            work(rank, &driver, &*link)
        })
    });
    Some(all.map(|rank| rank.join().unwrap()))
}

/// Waits until the device is done, as a host does that only looks.
fn look(driver: &Rc<dyn Driver>, link: &dyn Link) -> Result<()> {
    let done = crate::backend::cuda::driver::stream::Event::new(driver)?;
    done.record(crate::backend::cuda::driver::stream::Stream::Compute)?;
    for _ in 0..5_000 {
        link.check()?;
        if done.is_done()? {
            return Ok(());
        }
        thread::sleep(Duration::from_millis(1));
    }
    panic!("it never ends");
}

/// One exchange of `send` words and `receive` words with the other of two ranks.
fn exchange(
    rank: usize,
    driver: &Rc<dyn Driver>,
    link: &dyn Link,
    (send, receive): (usize, usize),
) -> Result<Vec<u32>> {
    let room = |words: usize| Memory::zeros(driver, 4 * words, "a message");
    let (out, back) = (room(send)?, room(receive)?);
    let words: Vec<u8> = (0..4 * send).map(|k| (100 * rank + k) as u8).collect();
    driver.to_device(out.at(), &words)?;
    let piece = |at, words| [Piece { rank: 1 - rank, at, words }];
    // SAFETY: so many words, which stay until the end of this function.
    unsafe { link.exchange(&piece(out.at(), send), &piece(back.at(), receive)) }?;
    look(driver, link)?;
    let mut got = vec![0_u8; 4 * receive];
    driver.to_host(back.at(), &mut got)?;
    Ok(got.into_iter().map(u32::from).collect())
}

#[test]
fn what_is_sent_arrives_in_its_turn() {
    for bare in [false, true] {
        let got = two(bare, |rank, driver, link| {
            let first = exchange(rank, driver, link, [(2, 3), (3, 2)][rank]).unwrap();
            let second = exchange(rank, driver, link, (1, 1)).unwrap();
            (first, second)
        });
        let Some([(a, a2), (b, b2)]) = got else { return };
        assert_eq!((a, b), ((100..112).collect(), (0..8).collect()));
        assert_eq!((a2, b2), ((100..104).collect(), (0..4).collect()));
    }
}

#[test]
fn pieces_that_do_not_meet_are_refused() {
    let got = two(false, |rank, driver, link| {
        let failed = exchange(rank, driver, link, [(2, 4), (3, 2)][rank]);
        link.abort();
        failed.map_err(|e| e.to_string())
    });
    let Some([a, b]) = got else { return };
    assert_eq!(
        a.unwrap_err(),
        "rank 1 sends 3 words in its exchange 1, and rank 0 expects 4 in its exchange 1"
    );
    // It may have had its own before the other gave up.
    match b {
        Ok(b) => assert_eq!(b, (0..8).collect::<Vec<u32>>()),
        Err(e) => assert_eq!(e, "ranks have given up their exchanges"),
    }
}

#[test]
fn what_no_library_takes_is_refused() {
    let got = two(true, |rank, driver, link| {
        let memory = Memory::zeros(driver, 64, "a message").unwrap();
        let piece = |at, words| Piece { rank: 1 - rank, at, words };
        let (here, behind) = (piece(memory.at(), 4), piece(memory.at() + 16, 4));
        let ask = |send: &[Piece], receive: &[Piece]| {
            // SAFETY: what is refused does nothing.
            unsafe { link.exchange(send, receive) }.map_err(|e| e.to_string())
        };
        let wrong = [
            ask(&[here], &[piece(memory.at() + 8, 4)]),
            ask(&[piece(memory.at() + 52, 4)], &[]),
            ask(&[here, behind], &[]),
            ask(&[Piece { rank, ..here }], &[]),
            ask(&[Piece { rank: 2, ..here }], &[]),
            ask(&[Piece { words: 0, ..here }], &[]),
        ];
        let captured = {
            driver.begin_capture().unwrap();
            let asked = ask(&[here], &[behind]);
            assert!(driver.end_capture().is_err());
            asked
        };
        assert!(ask(&[here], &[behind]).is_ok());
        driver.synchronize().unwrap();
        link.abort();
        (wrong.map(|asked| asked.err()), captured.err(), ask(&[here], &[behind]).err())
    });
    let Some([a, _]) = got else { return };
    let said = ["overlaps", "no memory of the device", "an exchange of", "an exchange of"];
    let said = [&said[..], &["an exchange of", "an exchange of"]].concat();
    for (error, said) in a.0.iter().zip(said) {
        assert!(error.as_ref().is_some_and(|e| e.contains(said)), "{error:?}: {said}");
    }
    assert_eq!(a.1.unwrap(), "an exchange between ranks is asked for during a capture");
    assert!(a.2.unwrap().contains("given up"));
}

/// A rank that does not send is waited for so long and no longer.
#[test]
fn who_waits_for_a_gpu_gives_up_in_time() {
    if Emulated::open(false).is_none() {
        return;
    }
    let all = threads::ranks(2).into_iter().map(|comm| {
        thread::spawn(move || {
            let config = CudaConfig {
                threads: 1,
                pin_threads: false,
                precision: Default::default(),
                graphs: false,
            };
            let mut cuda = Cuda::on(Emulated::open(false).unwrap(), &config).unwrap();
            let patience = Patience::For(Duration::from_millis(600));
            cuda.link_ranks(&comm, patience).unwrap();
            let mine = cuda.zeros(8, "a test").unwrap();
            if comm.rank() == 1 {
                // Not before the other has given up.
                thread::sleep(Duration::from_millis(1800));
                return None;
            }
            let link: &mut dyn DeviceLink<_> = cuda.link().unwrap();
            link.reserve(&[0, 8], &[0, 8]).unwrap();
            link.pack(1, Window::whole(8).of(&mine, 1)).unwrap();
            link.begin().unwrap();
            let error = link.finish(What::Pooled).unwrap_err();
            assert!(matches!(error, BackendError::Ranks(CommError::Stuck { .. })));
            Some(error.to_string())
        })
    });
    let said: Vec<_> = all.collect::<Vec<_>>().into_iter().map(|t| t.join().unwrap()).collect();
    assert_eq!(
        said[0].as_deref().unwrap(),
        "pooled vectors from GPU to GPU have not come for 0 s; the library that carries them does not say which rank is late"
    );
}
