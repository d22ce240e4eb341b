//! Batches as Parquet and back: zstd, one writer's settings for good, so that equal batches are equal bytes.

use bytes::Bytes;
use datafusion::arrow::array::RecordBatch;
use datafusion::parquet::arrow::ArrowWriter;
use datafusion::parquet::arrow::arrow_reader::{
    ParquetRecordBatchReader, ParquetRecordBatchReaderBuilder,
};
use datafusion::parquet::basic::{Compression, ZstdLevel};
use datafusion::parquet::errors::ParquetError;
use datafusion::parquet::file::properties::{EnabledStatistics, WriterProperties};
use datafusion::parquet::schema::types::ColumnPath;

use super::chain::Vouched;

/// How many rows a group of a segment has: what its statistics and bloom filters are about.
const GROUP_ROWS: usize = 32 << 10;
/// How many rows are decoded at once.
const BATCH_ROWS: usize = 32 << 10;
/// How often a bloom filter may be wrong.
const BLOOM_FPP: f64 = 0.01;

/// A batch as a Parquet file. The columns of `blooms` get bloom filters.
pub(super) fn encode(batch: &RecordBatch, blooms: &[String]) -> Result<Vec<u8>, ParquetError> {
    let level = ZstdLevel::try_new(1)?;
    let mut properties = WriterProperties::builder()
        .set_compression(Compression::ZSTD(level))
        .set_created_by("firstbad".into())
        .set_max_row_group_row_count(Some(GROUP_ROWS))
        .set_statistics_enabled(EnabledStatistics::Chunk)
        .set_offset_index_disabled(true);
    for name in blooms {
        let column = ColumnPath::new(vec![name.clone()]);
        properties = properties
            .set_column_bloom_filter_enabled(column.clone(), true)
            .set_column_bloom_filter_fpp(column.clone(), BLOOM_FPP)
            .set_column_bloom_filter_max_ndv(column, batch.num_rows().clamp(1, GROUP_ROWS) as u64);
    }
    let mut writer = ArrowWriter::try_new(Vec::new(), batch.schema(), Some(properties.build()))?;
    writer.write(batch)?;
    writer.into_inner()
}

/// The batches of a Parquet file, one after the other.
pub(super) fn decode(bytes: Vouched) -> Result<ParquetRecordBatchReader, ParquetError> {
    let builder = ParquetRecordBatchReaderBuilder::try_new(Bytes::from(bytes.into_bytes()))?;
    builder.with_batch_size(BATCH_ROWS).build()
}
