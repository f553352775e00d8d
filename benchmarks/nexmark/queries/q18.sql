-- The last bid of each bidder for each auction.
-- tally: nexmark.q18
SELECT last.auction, last.bidder, last.price, last.channel, last.date_time
FROM (
    SELECT
        b.*,
        row_number() OVER (
            PARTITION BY b.bidder, b.auction ORDER BY b.date_time DESC, b.id DESC
        ) AS place
    FROM nexmark.bid AS b
) AS last
WHERE last.place = 1
