-- The ten highest bids of each auction.
-- tally: nexmark.q19
SELECT best.auction, best.place, best.bidder, best.price, best.date_time
FROM (
    SELECT
        b.*,
        row_number() OVER (PARTITION BY b.auction ORDER BY b.price DESC, b.id) AS place
    FROM nexmark.bid AS b
) AS best
WHERE best.place <= 10
