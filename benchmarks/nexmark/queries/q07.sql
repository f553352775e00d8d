-- The highest bids of each ten seconds.
-- tally: nexmark.q07
SELECT b.auction, b.price, b.bidder, b.date_time
FROM nexmark.bid AS b
JOIN (
    SELECT
        date_bin(interval '10 seconds', highest.date_time, timestamp '2015-07-15') AS starts,
        max(highest.price) AS price
    FROM nexmark.bid AS highest
    GROUP BY 1
) AS m
    ON m.price = b.price
    AND m.starts = date_bin(interval '10 seconds', b.date_time, timestamp '2015-07-15')
