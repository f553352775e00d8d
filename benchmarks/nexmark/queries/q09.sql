-- The winning bid of each auction: the highest, and of equal ones the first.
-- tally: nexmark.q09
SELECT won.id, won.item_name, won.seller, won.category, won.bidder, won.price, won.bid_at
FROM (
    SELECT
        a.id, a.item_name, a.seller, a.category, b.bidder, b.price, b.date_time AS bid_at,
        row_number() OVER (
            PARTITION BY a.id ORDER BY b.price DESC, b.date_time, b.id
        ) AS place
    FROM nexmark.auction AS a
    JOIN nexmark.bid AS b ON b.auction = a.id AND b.date_time BETWEEN a.date_time AND a.expires
) AS won
WHERE won.place = 1
