-- The average price of each seller's last ten auctions that got a bid.
-- tally: nexmark.q06
SELECT ranked.seller, avg(ranked.final) AS average_price
FROM (
    SELECT
        sold.seller,
        sold.final,
        row_number() OVER (PARTITION BY sold.seller ORDER BY sold.expires DESC, sold.id) AS place
    FROM (
        SELECT a.id, a.seller, a.expires, max(b.price) AS final
        FROM nexmark.auction AS a
        JOIN nexmark.bid AS b
            ON b.auction = a.id AND b.date_time BETWEEN a.date_time AND a.expires
        GROUP BY a.id, a.seller, a.expires
    ) AS sold
) AS ranked
WHERE ranked.place <= 10
GROUP BY ranked.seller
