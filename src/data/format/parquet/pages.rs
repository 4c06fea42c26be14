//! Pages as the parquet crate unpacks them, looked at before it believes what they say.

use parquet::{
    basic::Type as Physical,
    column::page::{Page, PageMetadata, PageReader},
    errors::{ParquetError, Result},
};

/// Passes pages on, and refuses a dictionary that claims more values than it has bytes for: the
/// crate makes room for all of them, and a few bytes would ask for gigabytes.
pub(super) struct Sound {
    from: Box<dyn PageReader>,
    /// Bytes of a value.
    size: usize,
}

impl Sound {
    pub fn new(from: Box<dyn PageReader>, physical: Physical) -> Self {
        let size = match physical {
            Physical::INT32 | Physical::FLOAT => 4,
            Physical::INT64 | Physical::DOUBLE => 8,
            // Eight of them are a byte, and they have no dictionaries.
            _ => 1,
        };
        Sound { from, size }
    }

    fn check(&self, page: Option<Page>) -> Result<Option<Page>> {
        if let Some(Page::DictionaryPage { buf, num_values, .. }) = &page {
            let (values, bytes) = (*num_values as usize, buf.len());
            if values.checked_mul(self.size).is_none_or(|needed| needed > bytes) {
                return Err(ParquetError::General(format!(
                    "a dictionary claims {values} values of {} bytes and has {bytes}; the file is damaged",
                    self.size
                )));
            }
        }
        Ok(page)
    }
}

impl Iterator for Sound {
    type Item = Result<Page>;

    fn next(&mut self) -> Option<Self::Item> {
        self.get_next_page().transpose()
    }
}

impl PageReader for Sound {
    fn get_next_page(&mut self) -> Result<Option<Page>> {
        let page = self.from.get_next_page()?;
        self.check(page)
    }

    fn peek_next_page(&mut self) -> Result<Option<PageMetadata>> {
        self.from.peek_next_page()
    }

    fn skip_next_page(&mut self) -> Result<()> {
        self.from.skip_next_page()
    }

    fn supports_deferred_dictionary(&self) -> bool {
        self.from.supports_deferred_dictionary()
    }

    fn take_deferred_dictionary(&mut self) -> Result<Option<Page>> {
        let page = self.from.take_deferred_dictionary()?;
        self.check(page)
    }

    fn at_record_boundary(&mut self) -> Result<bool> {
        self.from.at_record_boundary()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use parquet::basic::Encoding;

    /// Hands out one dictionary.
    struct One(Option<Page>);

    impl Iterator for One {
        type Item = Result<Page>;

        fn next(&mut self) -> Option<Self::Item> {
            self.get_next_page().transpose()
        }
    }

    impl PageReader for One {
        fn get_next_page(&mut self) -> Result<Option<Page>> {
            Ok(self.0.take())
        }

        fn peek_next_page(&mut self) -> Result<Option<PageMetadata>> {
            Ok(None)
        }

        fn skip_next_page(&mut self) -> Result<()> {
            Ok(())
        }
    }

    #[test]
    fn dictionaries_have_the_bytes_of_their_values() {
        let read = |bytes: usize, num_values, physical| {
            let (buf, encoding) = (vec![0; bytes].into(), Encoding::PLAIN);
            let page = Page::DictionaryPage { buf, num_values, encoding, is_sorted: false };
            Sound::new(Box::new(One(Some(page))), physical).get_next_page().map(drop)
        };
        assert!(read(40, 10, Physical::INT32).is_ok() && read(80, 10, Physical::DOUBLE).is_ok());
        assert!(read(40, 11, Physical::FLOAT).is_err() && read(79, 10, Physical::INT64).is_err());
        let said = read(40, 490_000_000, Physical::INT64).unwrap_err().to_string();
        assert!(
            said.contains("a dictionary claims 490000000 values of 8 bytes and has 40"),
            "{said}"
        );
    }
}
