"""What an application asks of the fediverse, in one place.

Each question is in the file of its subject; none of them changes a setting, and those that
write (`record_sentiment`, `write_summary_text`) leave the commit to the caller.
"""

from __future__ import annotations

from assets.fediverse.questions.cooccurrence import Pair, hashtag_cooccurrence
from assets.fediverse.questions.follows import Follow, followers, following
from assets.fediverse.questions.gains import Rise, Velocity, engagement_velocity, rising_posts
from assets.fediverse.questions.history import History, Sentiment, Version, post_history
from assets.fediverse.questions.post_series import PostCounts, PostSeries, post_series
from assets.fediverse.questions.sentiment_changes import SentimentChange, sentiment_changes
from assets.fediverse.questions.sentiments import Unanalyzed, record_sentiment, unanalyzed_posts
from assets.fediverse.questions.series import (
    DomainHour,
    DomainTotal,
    HashtagHour,
    HourStats,
    domain_series,
    hashtag_series,
    hourly_series,
    top_domains,
)
from assets.fediverse.questions.summaries import (
    Summary,
    latest_summary,
    summaries,
    write_summary_text,
)
from assets.fediverse.questions.trends import (
    Trend,
    growing_hashtags,
    spiking_hashtags,
    trending_hashtags,
)

__all__ = [
    "DomainHour",
    "DomainTotal",
    "Follow",
    "HashtagHour",
    "History",
    "HourStats",
    "Pair",
    "PostCounts",
    "PostSeries",
    "Rise",
    "Sentiment",
    "SentimentChange",
    "Summary",
    "Trend",
    "Unanalyzed",
    "Velocity",
    "Version",
    "domain_series",
    "engagement_velocity",
    "followers",
    "following",
    "growing_hashtags",
    "hashtag_cooccurrence",
    "hashtag_series",
    "hourly_series",
    "latest_summary",
    "post_history",
    "post_series",
    "record_sentiment",
    "rising_posts",
    "sentiment_changes",
    "spiking_hashtags",
    "summaries",
    "top_domains",
    "trending_hashtags",
    "unanalyzed_posts",
    "write_summary_text",
]
