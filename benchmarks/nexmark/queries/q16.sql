-- The same for each channel and day, with the last minute of a bid.
-- tally: nexmark.q16
SELECT
    b.channel,
    to_char(b.date_time, 'YYYY-MM-DD') AS day,
    max(to_char(b.date_time, 'HH24:MI')) AS last_minute,
    count(*) AS bids,
    count(*) FILTER (WHERE b.price < 10000) AS small_bids,
    count(DISTINCT b.bidder) AS bidders,
    count(DISTINCT b.auction) FILTER (WHERE b.price < 10000) AS small_auctions
FROM nexmark.bid AS b
GROUP BY 1, 2
