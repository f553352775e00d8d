"""From events of the raw log to posts, versions, hashtags and all that follows from them."""

from assets.fediverse.processing.batches import process as process
